//! Interval bounds agree with those of auto_LiRPA.
