//! What is asked of a network: a box of inputs, and what would be a violation
//! in it.
//!
//! | file | holds |
//! |---|---|
//! | `region` | one box and its disjuncts: what analyses work on |
//! | `number` | exact decimals |

#![cfg_attr(not(test), allow(dead_code, reason = "decimals are read by the parsers of properties"))]

mod number;
mod region;

pub use region::{Atom, Disjunct, Region, RegionError};
