//! What an analysis leaves behind: records, one JSON line each, in run files
//! that survive an interruption.

mod certify;
mod run;
mod smooth;
mod tightness;

pub use certify::{CertifyRecord, CertifySummary, EpsSummary};
pub use run::{RunError, RunFile};
pub use smooth::{RadiusSummary, SmoothRecord, SmoothSummary, cohen_tsv};
pub use tightness::{LayerRecord, TightnessInput, TightnessRecord, TightnessSummary};
