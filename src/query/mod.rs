//! What is asked of a network: boxes of inputs, and what would be a violation
//! in them. From a property file to regions over one graph.
//!
//! | file | holds |
//! |---|---|
//! | `region` | one box and its disjuncts: what analyses work on |
//! | `property`, `syntax` | VNN-LIB 1 and 2 |
//! | `formula`, `number` | formulas with exact coefficients |
//! | `normal` | formulas as conjunctions, without those that contradict themselves |
//! | `build`, `join` | a property and its networks as one query |

mod build;
mod error;
mod formula;
mod join;
mod normal;
mod number;
mod property;
mod region;
mod syntax;

pub use build::Query;
pub use error::QueryError;
pub use property::{Declared, Kind, Property, Relative, Variable, Version};
pub use region::{Atom, Disjunct, Region, RegionError};

#[cfg(test)]
mod tests;
