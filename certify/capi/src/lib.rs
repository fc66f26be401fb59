//! The C interface of Tightrope.
//!
//! Handles are opaque and may be used from several threads at once. Buffers belong to the caller and
//! come with their lengths, which are checked. Every function returns a status; the message of the
//! last error on a thread is at `tightrope_last_error`. Nothing unwinds into C.

#![expect(unsafe_code, reason = "reads and writes through the pointers of C callers")]
#![expect(non_camel_case_types, reason = "names as C sees them")]
#![expect(unreachable_pub, reason = "what is public here is public to C")]

mod certify;
mod network;
mod smooth;
mod statistics;
mod status;
mod verify;
