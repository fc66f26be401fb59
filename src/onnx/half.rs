//! The two 16-bit float formats, widened exactly.

/// The value of an IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits); exact.
pub(super) fn f16(bits: u16) -> f64 {
    let sign = u64::from(bits >> 15) << 63;
    let exponent = u64::from(bits >> 10 & 0x1f);
    let fraction = u64::from(bits & 0x3ff);
    match (exponent, fraction) {
        // Zero and the subnormal numbers: multiples of 2^-24, which f64 holds as normal numbers.
        (0, _) => {
            let magnitude = f64::from(bits & 0x3ff) / f64::from(1 << 24);
            f64::from_bits(sign | magnitude.to_bits())
        }
        // Infinity, and not-a-number with its payload.
        (0x1f, _) => f64::from_bits(sign | 0x7ff << 52 | fraction << 42),
        // The exponent biases are 15 and 1023.
        _ => f64::from_bits(sign | (exponent + 1008) << 52 | fraction << 42),
    }
}

/// The value of a bfloat16, the upper half of an `f32`; exact.
pub(super) fn bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of a binary floating-point format, in powers of two.
    fn by_definition(bits: u16, exponent_bits: i32) -> f64 {
        let fraction_bits = 15 - exponent_bits;
        let offset = (1 << (exponent_bits - 1)) - 1;
        let exponent = i32::from(bits & 0x7fff) >> fraction_bits;
        let fraction = f64::from(i32::from(bits) & ((1 << fraction_bits) - 1));
        let fraction = fraction / 2f64.powi(fraction_bits);
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        if exponent == (1 << exponent_bits) - 1 {
            let special = if fraction == 0.0 { f64::INFINITY } else { f64::NAN };
            sign * special
        } else if exponent == 0 {
            sign * fraction * 2f64.powi(1 - offset)
        } else {
            sign * (1.0 + fraction) * 2f64.powi(exponent - offset)
        }
    }

    fn same(found: f64, expected: f64) -> bool {
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
    }

    #[test]
    fn every_bit_pattern_has_its_defined_value() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (f16(bits), by_definition(bits, 5));
            assert!(same(found, expected), "f16 {bits:#06x}: {found} {expected}");
            let (found, expected) = (bf16(bits), by_definition(bits, 8));
            assert!(same(found, expected), "bf16 {bits:#06x}: {found} {expected}");
        }
    }
}
