//! Verdicts agree with those of the verification competition: what our bounds
//! prove is `unsat` there, and where a search finds a counterexample it is `sat`.
//!
//! Read is the part of VNN-LIB that these benchmarks use: boxes of inputs, and
//! a disjunction of conjunctions of comparisons between outputs, or of an
//! output and a constant, that describes the counterexamples.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use ndarray::{Array2, ArrayView1};
use tightrope::bounds::{InputBox, MarginBounds, Method};
use tightrope::exec::Plan;
use tightrope::graph::{Graph, Node};
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::{Affine, Dense, Op, Periodic, Weights};

use crate::corpus;

/// An expression in parentheses, or a word.
#[derive(Debug)]
enum Term {
    Word(String),
    List(Vec<Term>),
}

impl Term {
    fn parse(text: &str) -> Vec<Self> {
        let code: String =
            text.lines().map(|line| line.split(';').next().unwrap_or("").to_owned() + "\n").collect();
        let spaced = code.replace('(', " ( ").replace(')', " ) ");
        let mut stack = vec![Vec::new()];
        for word in spaced.split_whitespace() {
            let term = match word {
                "(" => {
                    stack.push(Vec::new());
                    continue;
                }
                ")" => Self::List(stack.pop().expect("an open parenthesis")),
                word => Self::Word(word.to_owned()),
            };
            stack.last_mut().expect("balanced parentheses").push(term);
        }
        assert_eq!(stack.len(), 1, "balanced parentheses");
        stack.remove(0)
    }

    fn word(&self) -> &str {
        let Self::Word(word) = self else { panic!("a word in place of {self:?}") };
        word
    }

    fn list(&self) -> (&str, &[Self]) {
        let Self::List(terms) = self else { panic!("a list in place of {self:?}") };
        (terms[0].word(), &terms[1..])
    }

    /// The disjuncts, each a conjunction of comparisons.
    fn clauses(&self) -> Vec<Vec<Comparison>> {
        match self.list() {
            ("or", terms) => terms.iter().flat_map(Self::clauses).collect(),
            ("and", terms) => vec![terms.iter().map(Comparison::of).collect()],
            _ => vec![vec![Comparison::of(self)]],
        }
    }
}

/// `great >= small`.
#[derive(Clone, Debug)]
struct Comparison {
    great: Side,
    small: Side,
}

#[derive(Clone, Debug)]
enum Side {
    Input(usize),
    Output(usize),
    Number(f64),
}

impl Comparison {
    fn of(term: &Term) -> Self {
        let (name, sides) = term.list();
        let [a, b] = [0, 1].map(|k: usize| {
            let word = sides[k].word();
            match word.split_once('_') {
                Some(("X", i)) => Side::Input(i.parse().expect("a number")),
                Some(("Y", i)) => Side::Output(i.parse().expect("a number")),
                _ => Side::Number(word.parse().expect("a number")),
            }
        });
        match name {
            "<=" => Self { great: b, small: a },
            ">=" => Self { great: a, small: b },
            _ => panic!("<= or >= in place of {name}"),
        }
    }
}

/// `coefficients . output + constant`.
type Row = (Vec<f64>, f64);

/// A property: no input of the boxes leads into one of the clauses, in each of
/// which all rows are >= 0.
struct Property {
    boxes: Vec<Vec<(f64, f64)>>,
    clauses: Vec<Vec<Row>>,
}

impl Property {
    fn open(path: &Path, inputs: usize, outputs: usize) -> Self {
        let mut text = String::new();
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        GzDecoder::new(file).read_to_string(&mut text).expect("text");
        let mut common = vec![(f64::NEG_INFINITY, f64::INFINITY); inputs];
        let (mut alternatives, mut clauses) = (Vec::new(), vec![Vec::new()]);
        for term in Term::parse(&text) {
            let ("assert", [body]) = term.list() else { continue };
            let found = body.clauses();
            let of_inputs =
                |c: &Comparison| matches!((&c.great, &c.small), (Side::Input(_), _) | (_, Side::Input(_)));
            if !found.iter().flatten().any(of_inputs) {
                // Assertions are joined: a clause of each.
                let rows = |clause: &[Comparison]| clause.iter().map(|c| row(c, outputs)).collect::<Vec<_>>();
                let found: Vec<Vec<Row>> = found.iter().map(|c| rows(c)).collect();
                let joined = clauses.iter().flat_map(|old: &Vec<Row>| {
                    found.iter().map(move |new| [old.clone(), new.clone()].concat())
                });
                clauses = joined.collect();
            } else if let [single] = &found[..] {
                for c in single {
                    cut(&mut common, c);
                }
            } else {
                assert!(alternatives.is_empty(), "one choice of boxes");
                alternatives = found;
            }
        }
        if alternatives.is_empty() {
            alternatives.push(Vec::new());
        }
        let boxes = alternatives.iter().map(|alternative| {
            let mut ends = common.clone();
            for c in alternative {
                cut(&mut ends, c);
            }
            ends
        });
        Self { boxes: boxes.collect(), clauses }
    }

    /// Whether bounds prove it: in every box and clause some row is negative.
    fn proved(&self, graph: &Graph, method: Method) -> bool {
        let rows: Vec<&Row> = self.clauses.iter().flatten().collect();
        let graph = against_zero(graph, &rows);
        let ends = |side: fn(&(f64, f64)) -> f64| {
            Array2::from_shape_fn((self.boxes.len(), graph.input_len()), |(b, i)| side(&self.boxes[b][i]))
        };
        let set = InputBox::new(ends(|e| e.0), ends(|e| e.1)).expect("boxes");
        let margins = MarginBounds::new(&graph, method).bound(&set, &vec![0; self.boxes.len()]);
        margins.lower().rows().into_iter().all(|bounds| {
            let mut rest = bounds.iter().skip(1);
            self.clauses
                .iter()
                .all(|clause| rest.by_ref().take(clause.len()).filter(|b| **b > 0.0).count() > 0)
        })
    }

    /// By how much an output is a counterexample, at least.
    fn violation(&self, output: &[f32]) -> f64 {
        let value = |(a, b): &Row| a.iter().zip(output).map(|(a, y)| a * f64::from(*y)).sum::<f64>() + b;
        let clause = |rows: &Vec<Row>| rows.iter().map(value).fold(f64::INFINITY, f64::min);
        self.clauses.iter().map(clause).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether a search finds a counterexample, by more than inference in `f32`
    /// errs: random points, then steps to the corner that single moves of
    /// every entry point to.
    fn refuted(&self, graph: &Graph, seed: u64) -> bool {
        let (plan, n) = (Plan::new(graph), graph.input_len());
        let mut state = seed;
        let mut below = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        self.boxes.iter().any(|ends| {
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
                    let within = x.iter().zip(ends).all(|(&x, &(l, u))| (l..=u).contains(&f64::from(x)));
                    let size = y.iter().fold(1.0, |m: f64, &y| m.max(f64::from(y.abs())));
                    let found = self.violation(&y.to_vec()) - 1e-4 * size;
                    if within { found } else { f64::NEG_INFINITY }
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

/// A comparison of outputs as a row that is >= 0.
fn row(comparison: &Comparison, outputs: usize) -> Row {
    let (mut coefficients, mut constant) = (vec![0.0; outputs], 0.0);
    for (sign, side) in [(1.0, &comparison.great), (-1.0, &comparison.small)] {
        match side {
            Side::Output(i) => coefficients[*i] += sign,
            Side::Number(c) => constant += sign * c,
            Side::Input(_) => panic!("inputs and outputs in one comparison: {comparison:?}"),
        }
    }
    (coefficients, constant)
}

/// Applies a comparison of an input and a number. Decimals that stand for an
/// f32 are taken as that; others were rounded, and are moved outward.
fn cut(ends: &mut [(f64, f64)], comparison: &Comparison) {
    let exact = |c: f64| f64::from(c as f32) == c;
    match (&comparison.great, &comparison.small) {
        (Side::Input(i), Side::Number(c)) => ends[*i].0 = if exact(*c) { *c } else { c.next_down() },
        (Side::Number(c), Side::Input(i)) => ends[*i].1 = if exact(*c) { *c } else { c.next_up() },
        _ => panic!("no bound of an input: {comparison:?}"),
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
    let mut graphs: BTreeMap<&str, (Graph, usize)> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [onnx, vnnlib, _, verdict, ..] = fields[..] else { panic!("{line}") };
        let (graph, used) = graphs
            .entry(onnx)
            .or_insert_with(|| (load(folder.join(onnx), &LoadOptions::default()).expect("loads"), 0));
        *used += 1;
        let property = Property::open(&folder.join(vnnlib), graph.input_len(), graph.output_len());
        let proved = property.proved(graph, method);
        let refuted = property.refuted(graph, *used as u64);
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
