//! The table of Cohen, Rosenfeld and Kolter's scripts: tab-separated, one line for each input.

use super::results::{Ceiling, Claim, Finding, TableOptions};

/// The columns that are read, in any order; others are passed over.
pub(super) const COLUMNS: [&str; 6] = ["idx", "label", "predict", "radius", "correct", "time"];

/// What the lines of a table say, with what could not be read; what was found instead of a table.
pub(super) fn parse(text: &str, options: &TableOptions) -> Result<(Vec<Claim>, Vec<Finding>), String> {
    let mut lines = text.lines().enumerate();
    let first = lines.next().map_or("", |(_, line)| line);
    let names: Vec<&str> = first.split('\t').map(str::trim).collect();
    let place = |column: &&str| names.iter().position(|name| name == column);
    let places: Option<Vec<usize>> = COLUMNS.iter().map(place).collect();
    let Some(places) = places else {
        let start: String = first.chars().take(80).collect();
        return Err(if text.is_empty() {
            "an empty file".into()
        } else {
            format!("the first line {start:?}")
        });
    };
    let ceiling = Ceiling::of_table(options);
    let (mut claims, mut findings): (Vec<Claim>, _) = (Vec::new(), Vec::new());
    let mut most_decimals = 0;
    for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = i + 1;
        let mut find = |reason| findings.push(Finding { line: line_number, reason });
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        if fields.len() != names.len() {
            find(format!("found {} fields; accepted: {}, as in the first line", fields.len(), names.len()));
        }
        let mut field = [""; 6];
        for (field, &place) in field.iter_mut().zip(&places) {
            *field = fields.get(place).copied().unwrap_or_default();
        }
        let mut check = |column: usize, read: bool, accepted: &str| {
            if !read {
                find(format!("{} is `{}`; accepted: {accepted}", COLUMNS[column], field[column]));
            }
        };
        let [index, label, predicted, radius, correct, seconds] = field;
        let [index, label, predicted, correct] = [index, label, predicted, correct].map(whole_number);
        let (number, seconds) = (radius.parse::<f64>().ok(), seconds_of(seconds));
        for (column, read) in [index, label, predicted].iter().enumerate() {
            check(column, read.is_some(), "a whole number");
        }
        check(3, number.is_some(), "a number");
        check(4, correct.is_some(), "0 or 1");
        check(5, seconds.is_some(), "seconds, or h:mm:ss");
        // Small numbers have more decimals where digits are counted.
        if number.is_some_and(|number| number >= 0.1) {
            most_decimals = most_decimals.max(decimals(radius));
        }
        claims.push(Claim {
            line: line_number,
            index,
            label,
            predicted,
            radius: number,
            rounding: 0.0,
            correct,
            seconds,
            ceiling,
        });
    }
    for claim in &mut claims {
        claim.rounding = rounding(claim.radius.unwrap_or(0.0), most_decimals);
    }
    Ok((claims, findings))
}

/// `7`, or `7.0` as some scripts write it.
fn whole_number(text: &str) -> Option<i64> {
    let number = text.parse::<f64>().ok()?;
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

/// By how much rounding to nearest may have enlarged a radius in a table whose radii have at most so many
/// decimals: half of the last one, or half of the third digit, since some scripts print three digits
/// without the zeros at the end. At least two decimals are taken for granted.
fn rounding(radius: f64, decimals: i32) -> f64 {
    let third = libm::floor(libm::log10(radius.max(1e-9))) - 2.0;
    0.5 * 10_f64.powf(third.max(f64::from(-decimals.max(2))))
}

/// How many decimals a number has.
fn decimals(text: &str) -> i32 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let written = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len());
    written.min(400) as i32 - exponent.parse::<i32>().unwrap_or(0).clamp(-400, 400)
}

/// Seconds, or `h:mm:ss` with or without a fraction.
fn seconds_of(text: &str) -> Option<f64> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| *x >= 0.0 && x.is_finite());
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [seconds] => number(seconds),
        [hours, minutes, seconds] => {
            let whole = |text: &str| text.parse::<u32>().ok().map(f64::from);
            let below_60 = |x: &f64| *x < 60.0;
            let (minutes, seconds) = (whole(minutes).filter(below_60)?, number(seconds).filter(below_60)?);
            Some(whole(hours)? * 3600.0 + minutes * 60.0 + seconds)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds() {
        for (text, seconds) in [
            ("0.25", Some(0.25)),
            ("0:00:15.183712", Some(15.183_712)),
            ("1:02:03", Some(3723.0)),
            ("30:00:00", Some(108_000.0)),
            ("0:60:00", None),
            ("0:00:60", None),
            ("2:03", None),
            ("-1", None),
            ("nan", None),
            ("", None),
        ] {
            assert_eq!(seconds_of(text), seconds, "{text}");
        }
    }

    #[test]
    fn a_printed_radius_may_be_half_a_digit_too_large() {
        for (radius, decimals, half) in [
            (0.953, 3, 5e-4),
            (1.0, 3, 5e-3),
            (0.95, 2, 5e-3),
            (4.0, 0, 5e-3),
            (0.01, 4, 5e-5),
            (12.3, 2, 0.05),
        ] {
            assert!((rounding(radius, decimals) - half).abs() < 1e-12, "{radius}");
        }
        assert_eq!(["0.953", "1.0", "2", "9.53e-01", "nan"].map(decimals), [3, 1, 0, 3, 0]);
        assert_eq!([whole_number("7.0"), whole_number("7.5"), whole_number("inf")], [Some(7), None, None]);
    }
}
