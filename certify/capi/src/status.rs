//! Statuses, messages, and the way from C pointers to Rust values.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call ended with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum tightrope_status {
    /// All went well.
    TIGHTROPE_OK = 0,
    /// A network that cannot be loaded, or that an analysis does not cover.
    TIGHTROPE_MODEL_ERROR = 1,
    /// Arguments that cannot be used.
    TIGHTROPE_INPUT_ERROR = 2,
    /// A base classifier that returned an error.
    TIGHTROPE_CLASSIFIER_ERROR = 3,
    /// A defect of this library, caught. What was written to buffers is not defined.
    TIGHTROPE_PANIC = 4,
    /// The caller's `tightrope_progress` ended the call. Results of inputs that were not reached say nothing.
    TIGHTROPE_INTERRUPTED = 5,
}

/// Told now and then how many inputs (of `tightrope_verify`: subproblems) are done; anything but 0 ends the
/// call.
pub type tightrope_progress = Option<unsafe extern "C" fn(user: *mut c_void, done: u64) -> c_int>;

thread_local! {
    static WATCH: Cell<(tightrope_progress, *mut c_void)> = const { Cell::new((None, std::ptr::null_mut())) };
}

/// Has `progress` called with `user` during the calls of this thread from here on, on this thread; nobody for a
/// null pointer.
///
/// # Safety
/// `progress` may be called with `user` during any later call of this thread, and must return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_watch(progress: tightrope_progress, user: *mut c_void) {
    WATCH.set((progress, user));
}

/// Tells the caller how much is done, and asks whether to go on.
pub(crate) fn goes_on(done: u64) -> bool {
    let (progress, user) = WATCH.get();
    // SAFETY: `tightrope_watch` was told that it may be called.
    progress.is_none_or(|told| unsafe { told(user, done) } == 0)
}

/// Has all calls of this process compute on so many threads; 0 for all cores. Once, before anything else is
/// computed. No result depends on it.
#[unsafe(no_mangle)]
pub extern "C" fn tightrope_set_threads(threads: usize) -> tightrope_status {
    guard(|| {
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        built.map_err(|e| {
            Failure::input(format!("threads: {e}; accepted: one call, before the first computation"))
        })
    })
}

/// Why a call failed.
pub(crate) struct Failure(tightrope_status, String);

impl Failure {
    pub(crate) fn model(error: impl Display) -> Self {
        Self(tightrope_status::TIGHTROPE_MODEL_ERROR, error.to_string())
    }

    pub(crate) fn input(error: impl Display) -> Self {
        Self(tightrope_status::TIGHTROPE_INPUT_ERROR, error.to_string())
    }

    pub(crate) fn interrupted(done: usize) -> Self {
        Self(tightrope_status::TIGHTROPE_INTERRUPTED, format!("interrupted after {done} inputs"))
    }

    pub(crate) fn classifier(error: impl Display) -> Self {
        Self(tightrope_status::TIGHTROPE_CLASSIFIER_ERROR, error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The message of the last call on this thread that failed; empty if none did. Valid until the next
/// call on this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn tightrope_last_error() -> *const c_char {
    LAST_ERROR.with_borrow(|message| message.as_ptr())
}

/// The version of this library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn tightrope_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Does what a call asks for, and turns failures and panics into a status with a message.
pub(crate) fn guard(work: impl FnOnce() -> Result<()>) -> tightrope_status {
    let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Failure(tightrope_status::TIGHTROPE_PANIC, format!("internal error: {}", text(&*payload))))
    });
    match ended {
        Ok(()) => tightrope_status::TIGHTROPE_OK,
        Err(Failure(status, message)) => {
            let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
            LAST_ERROR.set(message);
            status
        }
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// What a pointer refers to.
///
/// # Safety
/// The pointer is null, or valid for reads as long as the result is used.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// A value that is written to.
///
/// # Safety
/// The pointer is null, or valid for writes and used by nobody else as long as the result is used.
pub(crate) unsafe fn place<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: as the caller promises.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(name))
}

/// An array that is read.
///
/// # Safety
/// The pointer is null, or valid for reads of `len` values as long as the result is used.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    if pointer.is_null() && len > 0 {
        return Err(null(name));
    }
    // SAFETY: as the caller promises; an empty array needs no pointer.
    Ok(if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pointer, len) } })
}

/// An array of `expected` values that is written to.
///
/// # Safety
/// The pointer is null, or valid for writes of `len` values and used by nobody else as long as the
/// result is used.
pub(crate) unsafe fn buffer<'a, T>(
    pointer: *mut T,
    len: usize,
    expected: usize,
    name: &str,
) -> Result<&'a mut [T]> {
    if len != expected {
        return Err(Failure::input(format!("{name}: found a length of {len}; accepted: {expected}")));
    }
    if pointer.is_null() && len > 0 {
        return Err(null(name));
    }
    // SAFETY: as the caller promises; an empty array needs no pointer.
    Ok(if len == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(pointer, len) } })
}

/// A string, or none for a null pointer.
///
/// # Safety
/// The pointer is null, or a string that ends in 0 and stays as long as the result is used.
pub(crate) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|_| Failure::input(format!("{name}: found bytes that are not UTF-8")))
}

fn null(name: &str) -> Failure {
    Failure::input(format!("{name}: found a null pointer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_with_its_message() {
        let status = guard(|| panic!("index {} is wrong", 3));
        assert_eq!(status, tightrope_status::TIGHTROPE_PANIC);
        // SAFETY: the message stays until the next failure on this thread.
        let message = unsafe { CStr::from_ptr(tightrope_last_error()) };
        assert_eq!(message.to_str(), Ok("internal error: index 3 is wrong"));
        assert_eq!(guard(|| Ok(())), tightrope_status::TIGHTROPE_OK);
    }
}
