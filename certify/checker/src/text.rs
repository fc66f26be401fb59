//! Lines of a certificate, and the lists in them.

/// Lines, of which the next can be looked at.
pub(crate) struct Lines<'a> {
    rest: std::iter::Peekable<std::str::Lines<'a>>,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text.lines().peekable(), number: 0 }
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.rest.next()
    }

    pub(crate) fn peek(&mut self) -> Option<&'a str> {
        self.rest.peek().copied()
    }

    /// What follows a word, if the next line begins with it.
    pub(crate) fn word(&mut self, word: &str) -> Option<&'a str> {
        let rest = self.peek()?.strip_prefix(word)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix(' ')? };
        self.next();
        Some(rest)
    }

    /// Number of the line that was read last, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

/// A number from its bits in hexadecimal, zeros at the end left out.
pub(crate) fn number(text: &str) -> Option<f64> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u64::from_str_radix(text, 16).ok()?;
    Some(f64::from_bits(bits << (4 * (16 - text.len()))))
}

/// Numbers; NaN where there is none.
pub(crate) fn numbers(list: &str) -> Vec<f64> {
    list.split_ascii_whitespace().map(|text| number(text).unwrap_or(f64::NAN)).collect()
}

/// Entries `3` and ranges `5-8`, all below `len`.
pub(crate) fn entries(list: &str, len: usize) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split_ascii_whitespace() {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        if from > to || to >= len || all.len() > 2 * len {
            return None;
        }
        all.extend(from..=to);
    }
    Some(all)
}

/// For every entry the slopes of its lines below and above, `LOW:HIGH`, or one that both have.
pub(crate) fn lines(list: &str, len: usize) -> Option<Vec<[f64; 2]>> {
    let pair = |text: &str| {
        let (low, high) = text.split_once(':').unwrap_or((text, text));
        Some([number(low)?, number(high)?])
    };
    let all: Vec<[f64; 2]> = list.split_ascii_whitespace().map(pair).collect::<Option<_>>()?;
    (all.len() == len && all.as_flattened().iter().all(|x| x.is_finite())).then_some(all)
}
