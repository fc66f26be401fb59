//! What is made of records: summaries, and curves over results of anybody.

mod certify;
mod curve;
mod results;
mod smooth;
mod table;
mod tightness;

pub use certify::{BracketSummary, CertifySummary, EpsSummary};
pub use curve::{CurvePoint, CurveSummary, usual_radii};
pub use results::{Finding, Results, ResultsError, TableOptions};
pub use smooth::{RadiusSummary, SmoothSummary, cohen_tsv};
pub use tightness::TightnessSummary;
