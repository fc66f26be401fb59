//! Buffers that begin with a cache line.

/// Numbers whose first stands at the beginning of a cache line, so that 16 of them, the samples of one
/// entry, lie in one line and not in two.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    numbers: Vec<f32>,
    start: usize,
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl Aligned {
    /// Zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let numbers = vec![0.0; len + LINE / size_of::<f32>()];
        let start = numbers.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        Self { numbers, start }
    }

    /// At least `len` numbers, whatever they are.
    pub fn room(&mut self, len: usize) -> &mut [f32] {
        if self.len() < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.start..]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_with_a_line_and_keep_what_they_hold() {
        for len in [0, 1, 16, 1000, 100_000] {
            let mut buffer = Aligned::zeros(len);
            assert!(buffer.len() >= len && (buffer.as_ptr() as usize).is_multiple_of(LINE));
            buffer.fill(2.0);
            assert!(buffer.room(len).iter().all(|&x| x == 2.0));
            assert_eq!(buffer.room(len + 50).len(), len + 50);
        }
    }
}
