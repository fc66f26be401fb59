//! Choosing, at run time, the code for the processor at hand.

/// A computation that is compiled once for each kind of processor.
pub trait Kernel {
    /// What it gives.
    type Output;

    /// Computes. Where `FUSED` is set, multiply-add is one instruction; a
    /// kernel that does not use it gives the same bits on every processor, as
    /// nothing is contracted on its own.
    ///
    /// Implementations are `#[inline(always)]`, and so is what they call in
    /// loops: only what ends up inside [`dispatch`] is compiled for the
    /// processor's vectors.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a kernel with the widest vectors that both it and the processor know.
#[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features, as just checked; the
        // function is otherwise safe.
        return unsafe { avx2(kernel) };
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}
