//! Verdicts agree with those of the verification competition: what our bounds
//! prove is `unsat` there, and where a search finds a counterexample it is `sat`.
//!
//! All files of the corpus are read, and asked of their networks.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array2, ArrayView1};
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::exec::Plan;
use tightrope::graph::{Graph, Node};
use tightrope::onnx::{LoadOptions, Ports, load_ports};
use tightrope::ops::{Affine, Dense, Op, Periodic, Weights};
use tightrope::query::{Atom, Property, Query};

use crate::corpus;

/// A property of one network; its rows are >= 0 where its atoms hold.
struct Case {
    query: Query,
}

/// `coefficients . output + constant`.
type Row = (Vec<f64>, f64);

fn row(atom: &Atom, outputs: usize) -> Row {
    assert!(atom.input.is_empty(), "a row of outputs: {atom:?}");
    let mut coefficients = vec![0.0; outputs];
    for &(i, c) in &atom.coefficients {
        coefficients[i] = -c;
    }
    (coefficients, atom.bound)
}

impl Case {
    fn open(path: &Path, network: &Ports) -> Self {
        let property = Property::read(path).unwrap_or_else(|e| panic!("{e}"));
        let query = Query::new(property, std::slice::from_ref(network), false);
        Self { query: query.unwrap_or_else(|e| panic!("{e}")) }
    }

    /// Whether bounds prove it: in every box and disjunct some row is negative.
    fn proved(&self, method: Method) -> bool {
        self.query.regions.iter().all(|region| {
            let graph = &self.query.graph;
            let atoms = region.disjuncts.iter().flat_map(|d| &d.atoms);
            let rows: Vec<Row> = atoms.map(|atom| row(atom, graph.output_len())).collect();
            let graph = against_zero(graph, &rows.iter().collect::<Vec<_>>());
            let ends =
                |ends: &[f64]| Array2::from_shape_vec((1, ends.len()), ends.to_vec()).expect("a row of ends");
            let set = InputBox::new(ends(&region.lower), ends(&region.upper)).expect("a box");
            let margins = MarginBounds::new(&graph, method).bound(&set, &[0]);
            let bounds = margins.lower().row(0).to_vec();
            let mut rest = bounds.iter().skip(1);
            region
                .disjuncts
                .iter()
                .all(|d| rest.by_ref().take(d.atoms.len()).filter(|b| **b > 0.0).count() > 0)
        })
    }

    /// Whether a search finds a counterexample, by more than inference in `f32`
    /// errs: random points, then steps to the corner that single moves of
    /// every entry point to.
    fn refuted(&self, seed: u64) -> bool {
        let (query, graph) = (&self.query, &self.query.graph);
        let (plan, n) = (Plan::new(graph), graph.input_len());
        let mut state = seed;
        let mut below = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        query.regions.iter().any(|region| {
            let ends: Vec<(f64, f64)> =
                region.lower.iter().copied().zip(region.upper.iter().copied()).collect();
            let violation = |y: &[f32]| {
                let value = |atom: &Atom| {
                    atom.bound - atom.coefficients.iter().map(|&(i, c)| c * f64::from(y[i])).sum::<f64>()
                };
                let least = |atoms: &[Atom]| atoms.iter().map(value).fold(f64::INFINITY, f64::min);
                region.disjuncts.iter().map(|d| least(&d.atoms)).fold(f64::NEG_INFINITY, f64::max)
            };
            // The nearest f32 inside, where there is one.
            let inside = |x: f64, (low, high): (f64, f64)| {
                let x = x as f32;
                if f64::from(x) < low {
                    x.next_up()
                } else if f64::from(x) > high {
                    x.next_down()
                } else {
                    x
                }
            };
            let corner = |i: usize, up: bool| inside(if up { ends[i].1 } else { ends[i].0 }, ends[i]);
            let values = |points: &Array2<f32>| -> Vec<f64> {
                let outputs = plan.run(points.view());
                let value = |(x, y): (ArrayView1<f32>, ArrayView1<f32>)| {
                    let (x, y) = (x.to_vec(), y.to_vec());
                    let size = y.iter().fold(1.0, |m: f64, &y| m.max(f64::from(y.abs())));
                    let found = violation(&y) - 1e-4 * size;
                    if found <= 0.0 || query.holds(&x, &y) { found } else { f64::NEG_INFINITY }
                };
                points.rows().into_iter().zip(outputs.rows()).map(value).collect()
            };
            let greatest =
                |values: &[f64]| (0..values.len()).fold(0, |m, i| if values[i] > values[m] { i } else { m });
            let mut points = Array2::from_shape_fn((64, n), |(point, i)| {
                let (low, high) = ends[i];
                let t =
                    if point == 0 { 0.5 } else { [0.0, 1.0, below(1001) as f64 / 1000.0][below(3) as usize] };
                inside(low + t * (high - low), (low, high))
            });
            let mut found = values(&points);
            for _ in 0..3 {
                let best = greatest(&found);
                if found[best] > 0.0 || n > 1000 {
                    break;
                }
                let base = points.row(best).to_vec();
                let far = |i: usize| f64::from(base[i]) < 0.5 * ends[i].0 + 0.5 * ends[i].1;
                let moved = |(point, i): (usize, usize)| if point == i { corner(i, far(i)) } else { base[i] };
                let single = values(&Array2::from_shape_fn((n, n), moved));
                let toward = |i: usize| corner(i, (single[i] > found[best]) == far(i));
                // All entries go there, or a random half of them, and so on.
                let mut share = |point: usize| below(1 << (point / 8)) == 0;
                let shares: Vec<bool> = (0..32).flat_map(|point| vec![point; n]).map(&mut share).collect();
                let mix = |(point, i): (usize, usize)| match point {
                    32 => base[i],
                    point if shares[point * n + i] => toward(i),
                    _ => base[i],
                };
                points = Array2::from_shape_fn((33, n), mix);
                found = values(&points);
            }
            found[greatest(&found)] > 0.0
        })
    }
}

/// The network with rows of its output behind a class that is always 0: the
/// margins of that class are the rows' negatives.
fn against_zero(graph: &Graph, rows: &[&Row]) -> Graph {
    let mut graph = graph.clone();
    let (inputs, outputs) = (graph.output_len(), rows.len() + 1);
    let weight = (0..inputs).flat_map(|i| std::iter::once(0.0).chain(rows.iter().map(move |row| row.0[i])));
    let bias = std::iter::once(0.0).chain(rows.iter().map(|row| row.1));
    let dense = Dense {
        rows: 1,
        inputs,
        outputs,
        weight: Weights::new(weight.collect()),
        // Constants were rounded from decimals.
        bias: Some(Periodic::new(Weights::rounded(bias.collect(), f64::EPSILON), 1)),
    };
    graph.nodes.push(Node {
        name: "property".into(),
        origin: "VNN-LIB".into(),
        op: Op::Affine(Affine::Dense(dense)),
        inputs: vec![graph.output],
        shape: vec![1, outputs],
    });
    graph.output = graph.nodes.len();
    graph.output_shape = vec![1, outputs];
    graph
}

/// Holds the properties of every network against the verdicts; returns how many were proved and refuted.
fn agree(family: &str, method: Method) -> Option<(usize, usize)> {
    let folder = corpus()?.join("vnncomp").join(family);
    let table = std::fs::read_to_string(folder.join("truth.csv")).expect("truth.csv");
    let mut graphs: BTreeMap<&str, (Ports, usize)> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [onnx, vnnlib, _, verdict, ..] = fields[..] else { panic!("{line}") };
        let (graph, used) = graphs.entry(onnx).or_insert_with(|| {
            (load_ports(folder.join(onnx), &LoadOptions::default(), &[]).expect("loads"), 0)
        });
        *used += 1;
        let case = Case::open(&folder.join(vnnlib), graph);
        let proved = case.proved(method);
        let refuted = case.refuted(*used as u64);
        let found = match (proved, refuted) {
            (true, true) => panic!("{onnx} {vnnlib}: proved and refuted"),
            (true, _) => "unsat",
            (_, true) => "sat",
            _ => "unknown",
        };
        assert!(
            found == "unknown" || verdict == "unknown" || found == verdict,
            "{onnx} {vnnlib}: {found}, should be {verdict}"
        );
        *counts.entry((verdict, found)).or_default() += 1;
    }
    for ((verdict, found), count) in &counts {
        println!("{family}: {count} properties are {verdict}, found {found}");
    }
    let total = |name: &str| counts.iter().filter(|((_, found), _)| *found == name).map(|(_, n)| n).sum();
    Some((total("unsat"), total("sat")))
}

#[test]
fn collision_avoidance() {
    let Some((proved, refuted)) = agree("acasxu", Method::AlphaCrown) else { return };
    assert!(proved >= 1 && refuted >= 1, "{proved} proved, {refuted} refuted");
}

#[test]
fn dense_digits() {
    let Some((proved, refuted)) = agree("mnist_fc", Method::AlphaCrown) else { return };
    assert!(proved >= 1 && refuted >= 1, "{proved} proved, {refuted} refuted");
}

#[test]
fn convolutions_of_pictures() {
    let Some((proved, _)) = agree("oval21", Method::AlphaCrown) else { return };
    assert!(proved >= 1, "{proved} proved");
}

#[test]
fn residual_networks() {
    let Some((proved, _)) = agree("cifar10_resnet", Method::AlphaCrown) else { return };
    assert!(proved >= 1, "{proved} proved");
}

#[test]
fn every_property_is_asked_of_its_network() {
    let Some(corpus) = corpus() else { return };
    for family in [
        "acasxu",
        "cifar10_resnet",
        "collins_rul",
        "eran",
        "mnist_fc",
        "oval21",
        "rl_benchmarks",
        "vit",
        "ml4acopf",
    ] {
        let folder = corpus.join("vnncomp").join(family);
        let table = std::fs::read_to_string(folder.join("truth.csv")).expect("truth.csv");
        let mut networks: BTreeMap<&str, Option<Ports>> = BTreeMap::new();
        let (mut asked, mut skipped) = (0, 0);
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let property = Property::read(folder.join(fields[1])).unwrap_or_else(|e| panic!("{e}"));
            let network = networks
                .entry(fields[0])
                .or_insert_with(|| load_ports(folder.join(fields[0]), &LoadOptions::default(), &[]).ok());
            // Operators that do not load are another test's subject.
            let Some(network) = network else {
                skipped += 1;
                continue;
            };
            let query = Query::new(property, std::slice::from_ref(network), false);
            let query = query.unwrap_or_else(|e| panic!("{e}"));
            assert!(!query.regions.is_empty(), "{}: no box", fields[1]);
            assert!(query.regions.iter().all(|r| r.lower.len() == query.graph.input_len()));
            asked += 1;
        }
        println!("{family}: {asked} properties asked, {skipped} of networks that do not load");
        assert!(asked > 0 || skipped > 0);
    }
}

#[test]
fn the_second_language_as_it_is_found() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("vnncomp/vnnlib2/vnnlib");
    for entry in std::fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        match (name.as_str(), Property::read(&path)) {
            ("acasxu_monotonic_as_found.vnnlib", Err(e)) => {
                assert!(e.to_string().contains("(< Y_f[1] Y_g[1])"), "{e}");
            }
            ("standard_initialized.vnnlib", Err(e)) => assert!(e.to_string().contains("<2.0>"), "{e}"),
            (_, Ok(property)) => {
                let again = Property::parse(&path, property.to_string().as_bytes());
                again.unwrap_or_else(|e| panic!("printed: {e}"));
            }
            (_, Err(e)) => panic!("{e}"),
        }
    }
    let load = |path: &str| {
        load_ports(corpus.join("vnncomp").join(path), &LoadOptions::default(), &[]).expect("loads")
    };
    let network = load("acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx");
    let property = Property::read(folder.join("acasxu_monotonic.vnnlib")).expect("a property");
    let query = Query::new(property, &[network.clone(), network], false).expect("a query");
    // Four inputs are tied; the lower side of the fifth follows from an inequality.
    assert_eq!((query.graph.input_len(), query.graph.output_len(), query.regions.len()), (6, 10, 1));
    let property = Property::read(folder.join("acc_nonlinear_1.vnnlib")).expect("a property");
    let query = Query::new(property, &[load("vnnlib2/onnx/acc.onnx")], false).expect("a query");
    println!("acc: {} disjuncts", query.regions.iter().map(|r| r.disjuncts.len()).sum::<usize>());
    assert_eq!(query.regions.len(), 1);
}
