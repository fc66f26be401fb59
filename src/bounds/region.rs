//! What perturbations a claim speaks of: a radius as it was written, a norm, and the range of the data.

use std::fmt;
use std::str::FromStr;

use ndarray::ArrayView2;

use super::{BoxError, InputBox, Norm};

/// A radius as it was written: a decimal, or a quotient of two such as `2/255`.
///
/// No `f64` need equal what was written, so there are three: what is proved is proved for
/// [`upper`](Self::upper), what refutes lies within [`lower`](Self::lower), and the nearest is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Eps {
    value: f64,
    /// How many steps of the last place the number that was written may be away.
    steps: u32,
    text: String,
}

impl FromStr for Eps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("`{text}` is not a radius; give a number >= 0 such as 0.1 or 2/255");
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong());
        // A decimal is rounded to nearest; a quotient of two once more, which is up to three units.
        let (value, steps) = match text.split_once('/') {
            None => (number(text)?, 1),
            Some((over, under)) => (number(over)? / number(under)?, 3),
        };
        if !(value >= 0.0 && value.is_finite()) {
            return Err(wrong());
        }
        // Zero is exact unless it underflowed.
        let digits = text.split(['/', 'e', 'E']).next().unwrap_or_default();
        let exact = value == 0.0 && !digits.contains(|c| ('1'..='9').contains(&c));
        Ok(Self { value, steps: if exact { 0 } else { steps }, text: text.to_owned() })
    }
}

impl TryFrom<f64> for Eps {
    type Error = BoxError;

    /// The radius whose nearest number this is.
    fn try_from(value: f64) -> Result<Self, BoxError> {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(BoxError::Eps(value));
        }
        Ok(Self { value, steps: u32::from(value > 0.0), text: value.to_string() })
    }
}

impl fmt::Display for Eps {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Eps {
    /// The nearest number, for records and messages.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// A number that is not below the one written.
    #[must_use]
    pub fn upper(&self) -> f64 {
        (0..self.steps).fold(self.value, |value, _| value.next_up())
    }

    /// A number that is not above the one written.
    #[must_use]
    pub fn lower(&self) -> f64 {
        (0..self.steps).fold(self.value, |value, _| value.next_down()).max(0.0)
    }
}

/// The perturbations around an input: the ball of a norm, cut to the range of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The norm.
    pub norm: Norm,
    /// The radius.
    pub eps: Eps,
    /// Least and greatest value of an entry.
    pub clip: Option<(f64, f64)>,
}

impl Region {
    /// The sets around the rows of `x` (`n x input_len`) that a certificate must speak of: no smaller
    /// than what was written.
    ///
    /// # Errors
    /// As [`InputBox::linf`].
    pub fn sets(&self, x: ArrayView2<f32>) -> Result<InputBox, BoxError> {
        InputBox::ball(self.norm, x, self.eps.upper(), self.clip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eps(text: &str) -> Eps {
        text.parse().expect("a radius")
    }

    #[test]
    fn the_number_as_written_lies_between() {
        assert_eq!(["0", "0.0", "0/255", "0e5"].map(|text| eps(text).upper()), [0.0; 4]);
        assert!(eps("1e-400").upper() > 0.0 && eps("0.1").upper() > 0.1 && eps("0.1").lower() < 0.1);
        // 0.287 / 2.6103 in integers: upper * 26103 >= 2870 >= lower * 26103, by exact products of halves.
        let halves = |x: f64| {
            let bits = x.to_bits();
            (u128::from((bits & ((1 << 52) - 1)) | 1 << 52), 1075 - (bits >> 52) as i32)
        };
        for (text, over, under) in [
            ("0.287/2.6103", 2870, 26103),
            ("0.283/1.1845", 2830, 11845),
            ("2/255", 2, 255),
            ("8/255", 8, 255),
            ("0.1", 1, 10),
            ("0.3", 3, 10),
        ] {
            let ((up, by), (down, below)) = (halves(eps(text).upper()), halves(eps(text).lower()));
            assert!(up * under >= over << by && down * under <= over << below, "{text}");
        }
        assert_eq!(Eps::try_from(0.1).expect("a radius"), eps("0.1"));
        assert!(Eps::try_from(f64::NAN).is_err() && "-1".parse::<Eps>().is_err());
    }
}
