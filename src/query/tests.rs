//! Formulas against a naive evaluator, both languages; hostile files.

use std::path::Path;

use num_rational::BigRational;
use num_traits::Zero;
use proptest::prelude::*;

use super::number::{decimal, exact};
use super::*;
use crate::bounds::Evaluation;
use crate::graph::Graph;
use crate::onnx::{Port, Ports};

fn parse(text: &str) -> Result<Property, String> {
    Property::parse(Path::new("p.vnnlib"), text.as_bytes()).map_err(|e| e.to_string())
}

/// A network of two inputs whose outputs are these inputs.
fn identity() -> Ports {
    let graph = Graph {
        input_name: "x".into(),
        input_shape: vec![1, 2],
        nodes: vec![],
        output: 0,
        output_shape: vec![1, 2],
        folded: vec![],
    };
    let port = |name: &str| Port { name: name.into(), shape: vec![1, 2] };
    Ports { graph, inputs: vec![port("x")], outputs: vec![port("y")], hidden: vec![] }
}

const HEAD: [&str; 2] = [
    "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)",
    "(vnnlib-version <2.0>)(declare-network f (declare-input X real [1,2])(declare-output Y real [2]))",
];
const NAMES: [[&str; 4]; 2] = [["X_0", "X_1", "Y_0", "Y_1"], ["X[0,0]", "X[0,1]", "Y[0]", "Y[1]"]];

fn boxes(version: usize) -> String {
    let name = NAMES[version];
    let side = |i: usize| format!("(assert (and (<= {0} 2.0) (>= {0} -2.0)))", name[i]);
    side(0) + &side(1)
}

/// A random formula as text in both languages, beside what it means.
#[derive(Clone, Debug)]
enum Naive {
    All(Vec<Naive>),
    Any(Vec<Naive>),
    Compare(&'static str, Term, Term),
}

#[derive(Clone, Debug)]
enum Term {
    Number(String),
    Variable(usize),
    Apply(&'static str, Vec<Term>),
}

impl Term {
    fn text(&self, version: usize) -> String {
        match self {
            Self::Number(text) => text.clone(),
            Self::Variable(i) => NAMES[version][*i].to_owned(),
            Self::Apply(op, terms) => {
                format!("({op} {})", terms.iter().map(|t| t.text(version)).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn value(&self, values: &[f32; 4]) -> BigRational {
        match self {
            Self::Number(text) => decimal(text).unwrap(),
            Self::Variable(i) => exact(f64::from(values[*i])).unwrap(),
            Self::Apply(op, terms) => {
                let all: Vec<BigRational> = terms.iter().map(|t| t.value(values)).collect();
                let rest = all[1..].iter().cloned();
                match *op {
                    "-" if all.len() == 1 => -all[0].clone(),
                    "+" => rest.fold(all[0].clone(), |a, b| a + b),
                    "-" => rest.fold(all[0].clone(), |a, b| a - b),
                    _ => rest.fold(all[0].clone(), |a, b| a * b),
                }
            }
        }
    }
}

impl Naive {
    fn text(&self, version: usize) -> String {
        let join = |parts: &[Self]| parts.iter().map(|p| p.text(version)).collect::<Vec<_>>().join(" ");
        match self {
            Self::All(parts) => format!("(and {})", join(parts)),
            Self::Any(parts) => format!("(or {})", join(parts)),
            Self::Compare(op, a, b) => format!("({op} {} {})", a.text(version), b.text(version)),
        }
    }

    fn holds(&self, values: &[f32; 4]) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|p| p.holds(values)),
            Self::Any(parts) => parts.iter().any(|p| p.holds(values)),
            Self::Compare(op, a, b) => {
                let difference = a.value(values) - b.value(values);
                let order = difference.cmp(&BigRational::zero());
                match *op {
                    "<=" => order.is_le(),
                    "<" => order.is_lt(),
                    ">=" => order.is_ge(),
                    ">" => order.is_gt(),
                    "==" => order.is_eq(),
                    _ => order.is_ne(),
                }
            }
        }
    }
}

fn term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        (0usize..4).prop_map(Term::Variable),
        prop::sample::select(vec![
            "0.5",
            "-1.0",
            "0.1",
            "2.0",
            "-0.25",
            "1e-1",
            "0.30000000000000004",
            "0.0"
        ])
        .prop_map(|t| Term::Number(t.into())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (prop::sample::select(vec!["+", "-", "*"]), prop::collection::vec(inner, 1..4))
            .prop_map(|(op, terms)| Term::Apply(op, terms))
    })
}

fn formula() -> impl Strategy<Value = Naive> {
    let ops = prop::sample::select(vec!["<=", "<", ">=", ">", "==", "!="]);
    let leaf = (ops, term(), term()).prop_map(|(op, a, b)| Naive::Compare(op, a, b));
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Naive::All),
            prop::collection::vec(inner, 1..4).prop_map(Naive::Any),
        ]
    })
}

/// Points on a grid, where formulas of such constants often touch.
fn point() -> impl Strategy<Value = [f32; 2]> {
    let entry = || prop::sample::select(vec![-2.0f32, -1.0, -0.25, 0.0, 0.1, 0.3, 0.5, 1.0, 2.0]);
    [entry(), entry()]
}

proptest! {
    #[test]
    fn formulas_mean_what_they_say(formula in formula(), points in prop::collection::vec(point(), 8)) {
        for (version, head) in HEAD.iter().enumerate() {
            let text = format!("{head}{}(assert {})", boxes(version), formula.text(version));
            let property = parse(&text).unwrap();
            let printed = parse(&property.to_string()).unwrap();
            let query = Query::new(property, &[identity()], false).unwrap();
            let again = Query::new(printed, &[identity()], false).unwrap();
            let plan = crate::exec::Plan::new(&query.graph);
            for x in &points {
                let expected = formula.holds(&[x[0], x[1], x[0], x[1]]);
                // Two inputs that are tied are one.
                let tied = query.graph.input_len() == 1;
                if tied && x[0] != x[1] {
                    prop_assert!(!expected);
                    continue;
                }
                let x = &x[usize::from(tied)..];
                let y = plan.run(ndarray::aview1(x).insert_axis(ndarray::Axis(0))).row(0).to_vec();
                prop_assert_eq!(query.holds(x, &y), expected, "{:?} {}", x, text);
                prop_assert_eq!(again.holds(x, &y), expected, "printed, {:?} {}", x, text);
                // What holds lies in a region; products in y are rounded, so these are compared in f64.
                let inside = query.regions.iter().any(|region| {
                    let ends = region.lower.iter().zip(&region.upper);
                    x.iter().zip(ends).all(|(&x, (&l, &u))| (l..=u).contains(&f64::from(x)))
                        && region.disjuncts.iter().any(|d| d.atoms.iter().all(|atom| {
                            let value: f64 = atom.coefficients.iter().map(|&(i, c)| c * f64::from(y[i])).sum();
                            let input: f64 = atom.input.iter().map(|&(i, c)| c * f64::from(x[i])).sum();
                            value + input <= atom.bound + 1e-5 * (1.0 + atom.bound.abs())
                        }))
                });
                prop_assert!(inside || !expected, "a violation outside all regions: {:?} {}", x, text);
            }
        }
    }

    #[test]
    fn any_text_is_a_property_or_an_error(text in "[()a-zA-Z0-9_<>=!+*.; \n\\[\\]\"-]{0,200}", cut in 0usize..400) {
        let _ = parse(&text);
        let whole = format!("{}{}(assert (<= Y[0] (+ X[0,0] 1.0)))", HEAD[1], boxes(1));
        prop_assert!(parse(&whole).is_ok());
        let _ = parse(&whole[..cut.min(whole.len())]);
    }
}

#[test]
fn nan_satisfies_nothing() {
    let text = format!("{}{}(assert (or (<= Y_0 0.0) (!= Y_0 0.0) (> Y_0 0.0)))", HEAD[0], boxes(0));
    let query = Query::new(parse(&text).unwrap(), &[identity()], false).unwrap();
    assert!(query.holds(&[0.5, 0.5], &[0.5, 0.5]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(!query.holds(&[0.5, 0.5], &[bad, 0.0]), "{bad}");
    }
}

#[test]
fn boxes_are_rounded_outward_and_decimals_stay_exact() {
    let text = format!(
        "{}(assert (<= X_0 0.1))(assert (>= X_0 0.0))(assert (<= X_1 1.0))(assert (>= X_1 1.0))(assert (<= Y_0 Y_1))",
        HEAD[0]
    );
    let query = Query::new(parse(&text).unwrap(), &[identity()], false).unwrap();
    let region = &query.regions[0];
    let tenth = decimal("0.1").unwrap();
    assert!(exact(region.upper[0]).unwrap() >= tenth && exact(region.upper[0].next_down()).unwrap() < tenth);
    // The f32 next to 0.1 lies above it.
    assert!(!query.holds(&[0.1, 1.0], &[0.0, 1.0]));
    assert!(query.holds(&[0.1f32.next_down(), 1.0], &[0.0, 1.0]));
}

#[test]
fn contradictions_leave_no_region() {
    for assertion in ["(and (>= X_0 1.5) (< X_0 1.5))", "(or (> X_1 2.0) (< X_1 -2.0))", "(< Y_0 Y_0)"] {
        let text = format!("{}{}(assert {assertion})", HEAD[0], boxes(0));
        let query = Query::new(parse(&text).unwrap(), &[identity()], false).unwrap();
        assert!(query.regions.is_empty(), "{assertion}");
    }
}

#[test]
fn tied_inputs_are_one_and_equal_networks_on_them_too() {
    let declared = "(vnnlib-version <2.0>)\
        (declare-network f (declare-input A real [2])(declare-output B real [2]))\
        (declare-network g (equal-to f) (declare-input C real [2])(declare-output D real [2]))";
    let limits = "(assert (and (<= A[0] 1.0) (>= A[0] 0.0) (<= A[1] 1.0) (>= A[1] 0.0) (== A[1] C[1])";
    let tied = format!("{declared}{limits} (<= C[0] 1.0) (<= A[0] C[0]) (< B[0] D[1])))");
    let query = Query::new(parse(&tied).unwrap(), &[identity(), identity()], false).unwrap();
    assert_eq!((query.graph.input_len(), query.graph.output_len()), (3, 4));
    // The lower side of C[0] follows from A[0] <= C[0].
    assert_eq!(query.regions[0].lower, [0.0, 0.0, 0.0]);
    assert!(query.holds(&[0.25, 0.75, 0.5], &[0.25, 0.75, 0.5, 0.75]));
    assert!(!query.holds(&[0.5, 0.75, 0.25], &[0.5, 0.75, 0.25, 0.75]));
    assert_eq!(
        query.assignment(&[0.25, 0.75, 0.5], &[1.0, 2.0, 3.0, 0.1]),
        "A real [2]\n0.25\n0.75\nB real [2]\n1.0\n2.0\nC real [2]\n0.5\n0.75\nD real [2]\n3.0\n0.100000001490116119384765625\n"
    );
    let both = format!("{declared}{limits} (== A[0] C[0]) (< B[0] D[1])))");
    let query = Query::new(parse(&both).unwrap(), &[identity(), identity()], false).unwrap();
    assert_eq!((query.graph.input_len(), query.graph.output_len()), (2, 2));
}

#[test]
fn errors_name_line_and_remedy() {
    let two = HEAD[1];
    for (text, parts) in [
        (format!("{two}\n(assert (Y[0] < Y[1]))"), &["line 2", "infix", "(< Y[0] Y[1])"][..]),
        (format!("{two}\n\n(assert (<= Y[2] 0.0))"), &["line 3", "`Y[2]`", "Y[1]"]),
        (format!("{two}(assert (<= Z 0.0))"), &["`Z` is not declared"]),
        (format!("{two}(assert (<= Y[0] nan))"), &["`nan`"]),
        (format!("{two}(assert (<= Y[0] 1.0"), &["line 1", "the file ends"]),
        (format!("{two})"), &["closing parenthesis"]),
        ("(vnnlib-version <3.0>)".into(), &["<3.0>", "<2.0>"]),
        (format!("{}(declare-const X_0 Real)", HEAD[0]), &["`X_0` is declared again"]),
        (
            "(declare-const X_0 Real)(declare-const Y_1 Real)(assert (<= X_0 1))".into(),
            &["`Y_0` is not declared"],
        ),
        (String::new(), &["nothing is asserted"]),
        (format!("{two}(assert (not (<= Y[0] 1.0)))"), &["`not`"]),
    ] {
        let message = parse(&text).expect_err(&text);
        assert!(message.starts_with("p.vnnlib") && !message.contains('\n'), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let asked =
        |text: String| Query::new(parse(&text).unwrap(), &[identity()], false).unwrap_err().to_string();
    let missing =
        asked(format!("{two}(assert (and (<= X[0,0] 1.0) (>= X[0,0] 0.0) (<= X[0,1] 1.0) (<= Y[0] 0.0)))"));
    assert!(missing.contains("`X[0,1]` has no lower bound"), "{missing}");
    for (element, named) in [("float64", "float64"), ("float32", "real")] {
        let mixed = two.replace("Y real", &format!("Y {element}"));
        let float = asked(format!("{mixed}{}(assert (<= Y[0] 0.0))", boxes(1)));
        assert!(float.contains(named) && float.contains("--real") | float.contains("float32"), "{float}");
    }
    let single = format!("{}{}(assert (<= Y[0] 0.0))", two.replace("real", "float32"), boxes(1));
    for (as_real, evaluation) in [(false, Evaluation::Float32), (true, Evaluation::Real)] {
        let query = Query::new(parse(&single).unwrap(), &[identity()], as_real).unwrap();
        assert_eq!(query.evaluation, evaluation);
    }
    let shape = asked(format!("{}(assert (<= Y[0] 0.0))", two.replace("[2]", "[3]")));
    assert!(shape.contains("`Y` has shape [3]") && shape.contains("[1, 2]"), "{shape}");
    let choice = "(or (<= Y[0] 0.0) (<= Y[1] (* 2.0 Y[0])))";
    let other = |i: usize| {
        let choice = choice.replace("0.0", &format!("{i}.5")).replace("2.0", &format!("{}.25", i + 2));
        format!("(assert {choice})")
    };
    let many = (0..40).map(other).collect::<Vec<_>>().concat();
    let exploded = asked(format!("{two}{}{many}", boxes(1)));
    assert!(exploded.contains("alternatives"), "{exploded}");
}

#[test]
fn depth_costs_no_stack() {
    let deep = 1_000_000;
    let nested = |open: &str, inner: &str| {
        format!("{}(assert {}{inner}{})", HEAD[0], open.repeat(deep), ")".repeat(deep))
    };
    assert!(parse(&nested("(and ", "(<= Y_0 0.0)")).is_ok());
    assert!(parse(&nested("(and (<= Y_0 1.0) ", "(<= Y_0 0.0)")).is_ok());
    assert!(parse(&nested("(", "")).is_err());
    assert!(parse(&"(".repeat(deep)).is_err());
    assert!(parse(&")".repeat(deep)).is_err());
    let alternating = nested("(and (<= Y_0 1.0) (or (<= Y_1 1.0) ", "(<= Y_0 0.0)").replace("))", ")) )");
    assert!(parse(&alternating).is_err());
    let sum = format!("{}(assert (<= {}Y_0{} 0.0))", HEAD[0], "(- ".repeat(deep), ")".repeat(deep));
    assert!(parse(&sum).is_ok());
}
