//! Options that several commands share, turned into values.

use std::ops::Range;
use std::str::FromStr;

/// A radius as written: decimal or a fraction such as `2/255`.
#[derive(Clone, Debug)]
pub(crate) struct Eps {
    /// The nearest number.
    pub(crate) value: f64,
    pub(crate) text: String,
}

impl FromStr for Eps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a radius; give a number >= 0 such as 0.1 or 2/255");
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong());
        let nearest = match text.split_once('/') {
            None => number(text)?,
            Some((over, under)) => number(over)? / number(under)?,
        };
        if !(nearest >= 0.0 && nearest.is_finite()) {
            return Err(wrong());
        }
        Ok(Self { value: nearest, text: text.trim().to_owned() })
    }
}

impl Eps {
    /// A number not below the one written, so that a certificate for it holds:
    /// a decimal was rounded to nearest, and a quotient of two was once more,
    /// which is up to three units in the last place. Zero is exact unless it
    /// underflowed.
    pub(crate) fn upper(&self) -> f64 {
        let digits = self.text.split(['/', 'e', 'E']).next().unwrap_or_default();
        if self.value == 0.0 && !digits.contains(|c| ('1'..='9').contains(&c)) {
            return 0.0;
        }
        let steps = if self.text.contains('/') { 3 } else { 1 };
        (0..steps).fold(self.value, |value, _| value.next_up())
    }
}

/// `A..B`, `A..` or `..B`.
pub(crate) fn indices(text: &str) -> Result<(Option<usize>, Option<usize>), String> {
    let wrong = || format!("`{text}` is not a range; give A..B, A.. or ..B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let end = |part: &str| match part.trim() {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| wrong()),
    };
    Ok((end(from)?, end(to)?))
}

/// The asked-for part of `0..len`.
pub(crate) fn select(
    asked: Option<(Option<usize>, Option<usize>)>,
    len: usize,
) -> Result<Range<usize>, String> {
    let (from, to) = asked.unwrap_or_default();
    let range = from.unwrap_or(0)..to.unwrap_or(len);
    if range.start >= range.end || range.end > len {
        return Err(format!("--indices {}..{}: the data has the inputs 0..{len}", range.start, range.end));
    }
    Ok(range)
}

/// `LO,HI`.
pub(crate) fn clip(text: &str) -> Result<(f64, f64), String> {
    let wrong = || format!("`{text}` is not a range of values; give LO,HI with LO <= HI, such as 0,1");
    let (low, high) = text.split_once(',').ok_or_else(wrong)?;
    let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong());
    let (low, high) = (number(low)?, number(high)?);
    if low <= high { Ok((low, high)) } else { Err(wrong()) }
}

/// A shape such as `1,3,32,32`.
#[derive(Clone, Debug)]
pub(crate) struct Shape(pub(crate) Vec<usize>);

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let axes = text.split([',', 'x']).map(|part| part.trim().parse::<usize>().ok().filter(|&n| n > 0));
        axes.collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a shape; give positive lengths such as 1,3,32,32"))
    }
}

#[cfg(test)]
mod tests {
    use super::Eps;

    #[test]
    fn eps_is_never_below_the_number_as_written() {
        let upper = |text: &str| text.parse::<Eps>().expect("a radius").upper();
        assert_eq!([upper("0"), upper("0.0"), upper("0/255"), upper("0e5")], [0.0; 4]);
        assert!(upper("1e-400") > 0.0 && upper("0.1") > 0.1);
        // 0.287 / 2.6103 in integers: upper * 26103 >= 2870, by exact products of halves.
        let exceeds = |text: &str, over: u128, under: u128| {
            let bits = upper(text).to_bits();
            let (mantissa, exponent) = ((bits & ((1 << 52) - 1)) | 1 << 52, (bits >> 52) as i32 - 1075);
            u128::from(mantissa) * under >= over << -exponent
        };
        assert!(exceeds("0.287/2.6103", 2870, 26103) && exceeds("0.283/1.1845", 2830, 11845));
        assert!(exceeds("2/255", 2, 255) && exceeds("8/255", 8, 255));
    }
}
