//! Records of randomized smoothing: whether the counts of votes allow the radius, by a binomial tail that is
//! computed in integers, every quotient rounded up.

use std::path::Path;

use num_bigint::BigUint;
use num_traits::One;
use serde_json::Value;

use crate::{Refusal, Result, cannot, files};

/// Bits of a probability behind the point, and of a factor.
const POINT: i64 = 512;
const WIDTH: u64 = 256;
/// A vote in sums of scores.
const VOTE: u128 = 1 << 48;

/// The answers to all records of a run file.
pub(crate) fn check(path: &Path) -> Result<Vec<Result<String>>> {
    let (_, bytes) = files::read(path)?;
    let wrong = |what: &str| Refusal::Usage(format!("{}: {what}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("not a text"))?;
    let mut lines = text.lines().map(serde_json::from_str::<Value>);
    let head = lines.next().and_then(std::result::Result::ok).ok_or_else(|| wrong("no first line"))?;
    if head["run"]["command"] != "smooth" {
        return Err(wrong("no run of smooth"));
    }
    let records = lines.map(|line| line.map_err(|e| wrong(&e.to_string())));
    records.map(|record| Ok(one(&head["run"], &record?))).collect()
}

fn one(run: &Value, record: &Value) -> Result<String> {
    let outcome = &record["outcome"];
    let name = format!("input {}", record["index"]);
    let Some(radius) = outcome["radius"].as_f64() else {
        return if outcome["radius"].is_null() { Ok(format!("{name} abstains")) } else { lacks("radius") };
    };
    let (candidate, bound) =
        (&outcome["candidate"], outcome["candidate"]["bound"].as_str().unwrap_or_default());
    let randomized = bound == "randomized-clopper-pearson";
    let plain =
        candidate["map"] == "hardmax" && outcome["verdict"] == "exhausted" && outcome["anytime"] == false;
    let known = plain && outcome["charge"] == 0.0 && run["lipschitz"].is_null() && run["radius"].is_null();
    if !known || !(randomized || bound == "clopper-pearson") {
        return cannot(format!("{name}: other than votes with a Clopper-Pearson bound, all samples used"));
    }
    let votes = |moments: &Value| -> Result<(u64, u64)> {
        let sum =
            moments["sum"].as_str().and_then(|sum| sum.parse::<u128>().ok()).filter(|sum| sum % VOTE == 0);
        match (sum, moments["count"].as_u64()) {
            (Some(sum), Some(n)) if sum / VOTE <= u128::from(n) && n < 1 << 24 => {
                Ok(((sum / VOTE) as u64, n))
            }
            _ => lacks("counts of votes"),
        }
    };
    let (successes, trials) = match &candidate["rule"] {
        rule if rule == "one-sided" => votes(&outcome["top"])?,
        rule if rule["pairwise"]["weight"] == 0.5 => {
            let pairs = outcome["pairs"].as_array().map_or(&[][..], Vec::as_slice);
            let all = pairs.iter().map(|pair| votes(&pair[1])).collect::<Result<Vec<_>>>()?;
            *all.iter().min().ok_or_else(|| Refusal::Rejected("no pairs of classes".into()))?
        }
        _ => return cannot(format!("{name}: a rule other than one-sided and pairwise with weight 1/2")),
    };
    let ledger = &outcome["ledger"];
    let ([entry], Some(total)) =
        (ledger["entries"].as_array().map_or(&[][..], Vec::as_slice), ledger["total"].as_f64())
    else {
        return lacks("ledger with one expense");
    };
    let (Some(alpha), Some(sigma)) = (entry["alpha"].as_f64(), outcome["noise"]["gaussian"].as_f64()) else {
        return lacks("alpha, or Gaussian noise");
    };
    if run["alpha"].as_f64() != Some(total) || !(alpha > 0.0 && alpha <= total && sigma > 0.0) {
        return Err(Refusal::Rejected(format!("{name}: spends {alpha} of an alpha of {}", run["alpha"])));
    }
    let stated = run["sigma"].as_array().is_some_and(|all| all.iter().any(|one| one.as_f64() == Some(sigma)));
    if !stated || record["sigma"].as_f64() != Some(sigma) {
        return Err(Refusal::Rejected(format!("{name}: other noise than that of the run")));
    }
    if record["radius"].as_f64() != Some(radius) || !(radius >= 0.0 && radius.is_finite()) {
        return lacks("one radius");
    }
    let drawn = if randomized { outcome["w"].as_f64() } else { Some(1.0) };
    let Some(drawn) = drawn.filter(|w| (0.0..=1.0).contains(w)) else { return lacks("draw") };
    // One that is too small would prove too much where all votes agree.
    let drawn = if successes == trials { drawn.max(2.0 * alpha).min(1.0) } else { drawn };
    // The radius is sigma Phi^-1(p), so p = 1 - q with q at least this; erfc of libm is within 16 units.
    let x = (radius / sigma).next_up() * std::f64::consts::FRAC_1_SQRT_2.next_up();
    let q = 0.5 * libm::erfc(x.next_up()) * (1.0 - 16.0 * f64::EPSILON);
    let tail = tail(successes, trials, q, drawn);
    if tail <= fixed(alpha) {
        let class = &outcome["class"];
        Ok(format!(
            "{name} has class {class} within radius {radius}, {successes} of {trials} votes, risk {alpha}"
        ))
    } else {
        Err(Refusal::Rejected(format!(
            "{name}: {successes} of {trials} votes do not give the radius {radius}"
        )))
    }
}

fn lacks<T>(what: &str) -> Result<T> {
    Err(Refusal::Rejected(format!("a record without {what}")))
}

/// Mantissa and exponent of a positive number.
fn parts(x: f64) -> (BigUint, i64) {
    let exponent = (x.to_bits() >> 52) as i64;
    let mantissa = x.to_bits() & ((1 << 52) - 1);
    if exponent == 0 { (mantissa.into(), -1074) } else { ((mantissa | 1 << 52).into(), exponent - 1075) }
}

/// `x 2^shift`, rounded up.
fn shifted(x: &BigUint, shift: i64) -> BigUint {
    if shift >= 0 {
        x << shift.unsigned_abs()
    } else {
        ratio(x.clone(), &(BigUint::one() << shift.unsigned_abs()))
    }
}

/// A quotient, rounded up.
fn ratio(over: BigUint, under: &BigUint) -> BigUint {
    (over + under - 1_u32) / under
}

/// A number with [`POINT`] bits behind the point, rounded down: exact for those of a usual size.
fn fixed(x: f64) -> BigUint {
    let (mantissa, exponent) = parts(x);
    let shift = exponent + POINT;
    if shift >= 0 { mantissa << shift.unsigned_abs() } else { mantissa >> shift.unsigned_abs() }
}

/// At least `P(B > k) + w P(B = k)` for the number `B` of `n` successes with probability `1 - q` each, with
/// [`POINT`] bits behind the point.
fn tail(k: u64, n: u64, q: f64, w: f64) -> BigUint {
    if !(q > 0.0 && q < 1.0) {
        return BigUint::one() << (POINT + 1).unsigned_abs();
    }
    let (fails, exponent) = parts(q);
    let one = BigUint::one() << exponent.unsigned_abs();
    let holds = &one - &fails;
    // The term of `k`, and each after it from the one before: mantissa, exponent.
    let mut term = (BigUint::one(), 0_i64);
    let normal = |(x, e): (BigUint, i64)| {
        let extra = x.bits().saturating_sub(WIDTH) as i64;
        (shifted(&x, -extra), e + extra)
    };
    for i in 0..n {
        // C(n, k) = product of (n - i) / (i + 1) for i below k.
        term = if i < k {
            normal((ratio((term.0 << WIDTH) * (n - i), &BigUint::from(i + 1)), term.1 - WIDTH as i64))
        } else {
            term
        };
        term = normal((term.0 * if i < k { &holds } else { &fails }, term.1 + exponent));
    }
    let mut sum = shifted(&(shifted(&term.0, term.1 + POINT) * fixed(w)), -POINT) + 1_u32;
    for i in k..n {
        let over = (term.0 << WIDTH) * (n - i) * &holds;
        term = normal((ratio(over, &(&fails * (i + 1))), term.1 - WIDTH as i64));
        let part = shifted(&term.0, term.1 + POINT);
        sum += &part;
    }
    sum
}
