use ndarray::Array2;

use super::*;
use crate::random::InputStreams;
use crate::report::{CurvePoint, usual_radii};
use crate::smoothing::procedure::{Estimation, Selection, Setup, Stopping};
use crate::smoothing::radius::{Lipschitz, Weight};

const HEADER: &str = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n";

fn alpha(x: f64) -> Alpha {
    Alpha::new(x).expect("a level")
}

fn options(sigma: Option<f64>) -> TableOptions {
    TableOptions { sigma: sigma.map(|s| Scale::new(s).expect("a scale")), n: 100_000, alpha: alpha(0.001) }
}

fn read_with(text: &str, options: &TableOptions) -> Result<Results, ResultsError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results");
    std::fs::write(&path, text).expect("room");
    let mut results = Results::read(&path, options)?;
    assert_eq!(results.len(), 1);
    Ok(results.remove(0))
}

/// The reasons found in a table of these lines.
fn findings(lines: &[&str]) -> Vec<(usize, String)> {
    let results =
        read_with(&format!("{HEADER}{}\n", lines.join("\n")), &options(Some(0.25))).expect("a table");
    results.findings.into_iter().map(|f| (f.line, f.reason)).collect()
}

#[test]
fn a_table_gives_the_curve() {
    // Certified for the label: .3, .5, .75; wrong: .9; an abstention; correct at radius 0.
    let text = format!(
        "{HEADER}0\t3\t3\t0.5\t1\t0:00:15.5\n1\t8\t-1\t0.0\t0\t0:00:14\n2\t8\t8\t0.75\t1\t1\n\
         3\t1\t2\t0.9\t0\t1.5\n7\t1\t1\t0.3\t1\t2\n8\t1\t1\t0.0\t1\t2\n"
    );
    let results = read_with(&text, &options(Some(0.25))).expect("a table");
    assert_eq!(results.findings, []);
    assert_eq!(usual_radii(std::slice::from_ref(&results)), [0.0, 0.25, 0.5, 0.75]);
    let summary = results.summary(&[0.0, 0.25, 0.5, 0.500_001, 0.75, 1.0], alpha(0.001));
    let certified: Vec<usize> = summary.results.iter().map(|p| p.certified).collect();
    assert_eq!(certified, [4, 3, 2, 1, 1, 0]);
    assert_eq!((summary.inputs, summary.abstentions, summary.seconds), (6, 1, 36.0));
    assert!((summary.average_certified_radius - 1.55 / 6.0).abs() < 1e-12);
    let CurvePoint { certified_accuracy, .. } = summary.results[1];
    assert_eq!(certified_accuracy, 0.5);
}

#[test]
fn other_columns_are_passed_over_and_carriage_returns_too() {
    let text = "idx\tpadv\tpredict\tlabel\tcorrect\tradius\ttime\r\n5\t9\t1.0\t1\t1\t0.5\t1\r\n";
    let results = read_with(text, &options(None)).expect("a table");
    assert_eq!((results.findings.len(), results.radii()), (0, &[0.5][..]));
    assert!(results.notes[0].contains("--sigma"));
}

#[test]
fn what_cannot_be_right_is_found() {
    let one = |line: &str, part: &str| {
        let found = findings(&["0\t1\t1\t0.5\t1\t1", line]);
        assert!(found.len() == 1 && found[0].0 == 3 && found[0].1.contains(part), "{line}: {found:?}");
    };
    one("1\t1\t1\tnan\t1\t1", "radius is NaN");
    one("1\t1\t1\tinf\t1\t1", "radius is inf");
    one("1\t1\t1\t-0.1\t1\t1", "radius is -0.1");
    one("1\t1\t1\t\t1\t1", "radius is ``");
    one("1\t1\t-1\t0.1\t0\t1", "abstention");
    one("1\t1\t2\t0.1\t1\t1", "correct is 1, with label 1 and predict 2");
    one("1\t1\t1\t0.1\t0\t1", "correct is 0, with label 1 and predict 1");
    one("1\t1\t-1\t0.0\t1\t1", "correct is 1, with label 1 and predict -1");
    one("1\t1\t1\t0.1\t-1\t1", "correct is -1; accepted: 0 or 1");
    one("1\t1\t1\t0.1\tTrue\t1", "correct is `True`; accepted: 0 or 1");
    one("1\t-2\t1\t0.1\t0\t1", "label is -2");
    one("0\t1\t1\t0.1\t1\t1", "was there before, on line 2");
    one("1\t1\t1\t0.1\t1\t0:61:00", "time is `0:61:00`; accepted: seconds, or h:mm:ss");
    assert_eq!(findings(&["0\t1\t1\t0.5"]).len(), 3, "fields, correct, time");
}

#[test]
fn radii_above_what_the_samples_allow_are_found() {
    // .25 Phi^-1(.001^(1/100000)) = .952864, which three digits print as .953.
    assert_eq!(findings(&["0\t1\t1\t0.953\t1\t1"]), []);
    let found = findings(&["0\t1\t1\t0.954\t1\t1"]);
    assert!(found[0].1.contains("at most 0.9528"), "{found:?}");
    assert!(findings(&["0\t1\t2\t4\t0\t1"])[0].1.contains("radius is 4"), "wrong classes too");
}

#[test]
fn a_running_count_is_found_once_and_labels_decide() {
    let lines = "0\t1\t1\t0.5\t1\t1\n1\t1\t2\t0.5\t1\t1\n2\t1\t1\t0.6\t2\t1\n3\t1\t-1\t0.0\t2\t1\n";
    let results = read_with(&format!("{HEADER}{lines}"), &options(Some(0.25))).expect("a table");
    assert_eq!(results.findings.len(), 1, "{:?}", results.findings);
    assert!(results.findings[0].line == 4 && results.findings[0].reason.contains("running count"));
    assert_eq!(results.radii(), [0.5, 0.6]);
}

#[test]
fn findings_do_not_certify() {
    let lines = "0\t1\t1\tinf\t1\t1\n1\t1\t2\t0.5\t1\t1\n2\t1\t1\t0.6\t0\t1\n3\t1\t1\t0.7\t1\t1\n3\t1\t1\t0.8\t1\t1\n";
    let results = read_with(&format!("{HEADER}{lines}"), &options(Some(0.25))).expect("a table");
    assert_eq!((results.findings.len(), results.inputs(), results.radii()), (4, 4, &[0.7][..]));
}

#[test]
fn the_share_of_false_certificates_is_allowed_for() {
    let share = |inputs: usize| {
        let row = |i: usize| format!("{i}\t1\t1\t0.5\t1\t1\n");
        let text: String = std::iter::once(HEADER.to_owned()).chain((0..inputs).map(row)).collect();
        read_with(&text, &options(None)).expect("a table").false_share(alpha(0.001))
    };
    // .001 + sqrt(.000999 ln(1000) / 500) + ln(1000) / 1500 by hand.
    assert!((share(500) - 0.009_320_233).abs() < 1e-8, "{}", share(500));
    // Of 10,000 certificates more than 21 are false with probability .0007, more than 20 with .0016.
    assert!((share(10_000) - 0.0021).abs() < 1e-9, "{}", share(10_000));
}

#[test]
fn other_forms_are_refused_with_what_is_accepted() {
    for (text, found) in [
        ("", "an empty file"),
        ("idx\tlabel\n0\t1\n", "the first line"),
        ("idx,label,predict,radius,correct,time\n", "the first line"),
        (HEADER, "no results"),
        ("{\"run\":{\"command\":\"certify\"}}\n", "certify"),
        ("{\"run\":{\"command\":\"smooth\",\"indices\":[0,1]}}\n", "no results"),
    ] {
        let error = read_with(text, &options(None)).expect_err(text).to_string();
        assert!(
            error.contains(found) && error.contains("idx, label, predict, radius, correct, time"),
            "{error}"
        );
    }
}

/// Streams whose draw lies within a range.
fn drawing(range: std::ops::Range<f64>) -> InputStreams {
    let mut seeds = (0..4_000_000).map(|seed| InputStreams::new(seed, 0));
    seeds.find(|streams| range.contains(&streams.once())).expect("a draw")
}

/// The outcome for a network that always answers class 0, whatever the noise.
fn agreed(candidate: Candidate, noise: &Noise, stopping: Stopping, streams: InputStreams) -> Outcome {
    let setup = Setup {
        noise: noise.clone(),
        entries: 2,
        charge: 0.0,
        alpha: alpha(0.001),
        n0: 20,
        batch: 64,
        streams,
    };
    let mut sample = |range: std::ops::Range<u32>| {
        let logits = |(_, column): (usize, usize)| if column == 0 { 1000.0 } else { 0.0 };
        Ok(Array2::from_shape_fn((range.len(), 3), logits))
    };
    let selection = Selection::run(setup, &[candidate], stopping, &mut sample).expect("a selection");
    Estimation::new(selection).run(&mut sample).expect("an outcome")
}

#[test]
fn no_method_exceeds_the_ceiling_and_clopper_pearson_reaches_it() {
    let scale = Scale::new(0.5).expect("a scale");
    let soft = "softmax:1".parse().expect("a map");
    let constant = Lipschitz::new(2.0).expect("a constant");
    let aware = RadiusRule::Aware { logits: constant, evaluation_error: 0.0 };
    let hard = SimplexMap::Hardmax;
    let one = RadiusRule::OneSided;
    let fair = RadiusRule::Pairwise { weight: Weight::HALF };
    let draws = [0.0..1e-5, 5e-4..1e-3, 1e-3..2e-3, 0.01..0.02, 0.7..0.8].map(drawing);
    let mut tried = 0;
    for (map, bound, rule) in [
        (hard, Bound::ClopperPearson, one),
        (hard, Bound::ClopperPearson, RadiusRule::TwoSided),
        (hard, Bound::RandomizedClopperPearson, one),
        (hard, Bound::RandomizedClopperPearson, fair),
        (hard, Bound::KrichevskyTrofimov, one),
        (hard, Bound::Hoeffding, one),
        (soft, Bound::Bernstein, one),
        (soft, Bound::Bernstein, RadiusRule::TwoSided),
        (soft, Bound::Bernstein, aware),
        (soft, Bound::Betting, one),
    ] {
        for name in ["gaussian", "uniform", "laplace"] {
            let noise = Noise::new(name, scale).expect("a noise");
            if rule != one && rule != fair && noise.norm() == Norm::L1 {
                continue;
            }
            for streams in draws {
                let candidate = Candidate::new(map, bound, rule).expect("a combination");
                let tolerance = Stopping::Tolerance { fraction: 0.1, most: 500 };
                for stopping in [Stopping::Fixed(1), Stopping::Fixed(500), tolerance] {
                    let o = agreed(candidate, &noise, stopping, streams);
                    let ceiling = Ceiling::new(&candidate, &noise, o.classes, o.samples, alpha(0.001), o.w);
                    let radius = o.radius.map_or(0.0, Radius::get);
                    assert!(radius <= ceiling.radius, "{candidate:?} {name} {streams:?} {stopping:?}");
                    if bound == Bound::ClopperPearson && rule == one && stopping == Stopping::Fixed(500) {
                        assert!(radius > ceiling.radius * (1.0 - 1e-8), "{name}");
                    }
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 5 * 3 * (7 * 3 + 3));
}
