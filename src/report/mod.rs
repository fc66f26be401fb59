//! What an analysis leaves behind: records, one JSON line each, in run files
//! that survive an interruption; runs put together again, and curves over results of anybody.

mod certify;
mod curve;
mod merge;
mod results;
mod run;
mod smooth;
mod table;
mod tightness;

pub use certify::{CertifyRecord, CertifySummary, EpsSummary, Status};
pub use curve::{CurvePoint, CurveSummary, usual_radii};
pub use merge::{MergeError, MergedRun};
pub use results::{Finding, Results, ResultsError, TableOptions};
pub use run::{RunError, RunFile, RunLines};
pub use smooth::{RadiusSummary, SmoothRecord, SmoothSummary, cohen_tsv};
pub use tightness::{LayerRecord, TightnessInput, TightnessRecord, TightnessSummary};
