//! Tightness against theory, brute force and itself.

use std::sync::Arc;

use ndarray::{Array2, array, s};
use tightrope::bounds::InputBox;
use tightrope::data::Dataset;
use tightrope::exec::Plan;
use tightrope::graph::{Graph, NormalizeError};
use tightrope::onnx::{LoadOptions, SaveError, load, load_bytes, save, to_bytes};
use tightrope::ops::{Abs, LeakyRelu, Op, Periodic, Sigmoid};
use tightrope::tightness::exact::{Budget, margin_ranges};
use tightrope::tightness::generate::{Architecture, Init, cnn, dense_chain, invariant_chain};
use tightrope::tightness::study::{Point, depth, embedding, width};
use tightrope::tightness::{
    CompanionFigures, DenseChain, Mask, Radii, Sampling, Tightness, Witness, closed_form, weight_signs,
};

/// Inputs in a stretched grid of values, `n x len`.
fn inputs(n: usize, len: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, len), |(i, j)| ((i * 37 + j * 11) % 23) as f32 / 23.0)
}

fn measure(graph: &Graph, mask: Mask, x: &Array2<f32>, eps: f64) -> Vec<Radii> {
    let boxes = InputBox::linf(x.view(), eps, None).expect("boxes");
    Tightness::new(graph, mask).expect("supported").measure(x.view(), &boxes, None)
}

/// Within five standard errors, and these small enough to say something.
fn agrees(p: &Point) {
    assert!((p.measured - p.closed_form).abs() <= 5.0 * p.standard_error + 1e-12, "{p:?}");
    assert!(p.standard_error <= 0.03 * p.closed_form, "{p:?}");
}

#[test]
fn two_layers_follow_the_closed_form_and_relu_is_sqrt_2_tighter() {
    let study = width(100, 11);
    study.series.iter().flat_map(|s| &s.points).for_each(agrees);
    for (linear, relu) in study.series[0].points.iter().zip(&study.series[1].points).skip(6) {
        assert!((relu.measured / linear.measured / 2f64.sqrt() - 1.0).abs() < 0.03, "{linear:?} {relu:?}");
    }
}

#[test]
fn the_mean_of_ratios_is_close_to_the_ratio_of_means() {
    let mean = |d: usize| {
        let one = |seed| {
            measure(
                &dense_chain(&[32, d, 32], false, Init::Gaussian, seed),
                Mask::Identity,
                &inputs(1, 32),
                1.0,
            )
        };
        (0..60).map(|seed| one(seed)[0].tightness() / 60.0).sum::<f64>()
    };
    for d in [16, 64, 256] {
        assert!((mean(d) / closed_form::two_layers(d) - 1.0).abs() < 0.01, "{d}: {}", mean(d));
    }
}

#[test]
fn depth_multiplies_the_loss() {
    let study = depth(200, 5);
    let linear = &study.series[0].points;
    for p in linear {
        // The formula is the leading term; each layer adds about half a percent at this width.
        assert!((p.measured / p.closed_form - 1.0).abs() < 0.006 * p.parameter as f64 + 0.01, "{p:?}");
        let bound = closed_form::depth_bound(64, p.parameter);
        assert!(p.measured <= bound + 5.0 * p.standard_error, "{p:?} {bound}");
    }
    // Monte Carlo values of an independent implementation.
    let at = |layers: usize| linear.iter().find(|p| p.parameter == layers).expect("measured").measured;
    assert!((at(4) / 3.76e-3 - 1.0).abs() < 0.03 && (at(8) / 2.16e-6 - 1.0).abs() < 0.08);
}

#[test]
fn embeddings_follow_the_closed_form() {
    let study = embedding(30, 3);
    for series in &study.series {
        series.points.iter().for_each(agrees);
    }
    let at_40 =
        |i: usize| study.series[i].points.iter().find(|p| p.parameter == 40).expect("measured").closed_form;
    assert!((at_40(0) - 25.61).abs() < 5e-3 && (at_40(1) - 4.2587).abs() < 5e-5);
}

/// Products of weights along every path from every input to every output.
fn paths(chain: &DenseChain) -> Vec<(usize, usize, f64)> {
    let mut paths: Vec<(usize, usize, f64)> = (0..chain.layers()[0].ncols()).map(|j| (j, j, 1.0)).collect();
    for layer in chain.layers() {
        let through =
            |&(j, k, p): &(usize, usize, f64)| (0..layer.nrows()).map(move |i| (j, i, p * layer[[i, k]]));
        paths = paths.iter().flat_map(through).collect();
    }
    paths
}

/// A chain of small integers, many of them zero.
fn integers(widths: &[usize], seed: u64) -> DenseChain {
    let matrix = |(i, w): (usize, &[usize])| {
        let normal = Init::Gaussian.matrix(w[1], w[0], seed, i);
        normal.mapv(|x| if x.abs() < 0.4 { 0.0 } else { x.trunc() + x.signum() })
    };
    DenseChain::new(widths.windows(2).enumerate().map(matrix).collect()).expect("a chain")
}

#[test]
fn invariance_is_decided_as_by_brute_force_with_valid_witnesses() {
    let mut counts = [0; 2];
    for seed in 0..400 {
        let widths = [&[2, 3, 2][..], &[3, 2, 2, 2], &[1, 2, 3, 2, 1], &[2, 2]][seed as usize % 4];
        let chain = integers(widths, seed);
        let paths = paths(&chain);
        let has =
            |j: usize, i: usize, sign: f64| paths.iter().any(|p| p.0 == j && p.1 == i && p.2 * sign > 0.0);
        let broken = |(i, j): (usize, usize)| has(j, i, 1.0) && has(j, i, -1.0);
        let (ins, outs) = (widths[0], widths[widths.len() - 1]);
        let first = (0..outs).flat_map(|i| (0..ins).map(move |j| (i, j))).find(|&at| broken(at));
        counts[usize::from(first.is_none())] += 1;
        let decided = chain.invariance();
        let radii = measure(&chain.graph(false), Mask::Identity, &inputs(1, ins), 1.0);
        let exact = radii[0].rows().iter().all(|[o, l]| (o.get() - l.get()).abs() < 1e-9 * (1.0 + l.get()));
        assert_eq!(decided.is_ok(), exact, "{chain:?}");
        let Err(witness) = decided else {
            assert_eq!(first, None);
            continue;
        };
        let Witness { output, input, positive, negative } = &witness;
        assert_eq!(first, Some((*output, *input)));
        let product = |hidden: &[usize]| {
            let units: Vec<usize> = [&[*input], hidden, &[*output]].concat();
            units.windows(2).zip(chain.layers()).map(|(u, layer)| layer[[u[1], u[0]]]).product::<f64>()
        };
        assert!(product(positive) > 0.0 && product(negative) < 0.0);
        let (layer, [p, n]) = witness.pair().expect("paths differ");
        assert!(
            positive[layer] == p && negative[layer] == n && positive[layer + 1..] == negative[layer + 1..]
        );
    }
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
}

#[test]
fn invariance_of_special_chains() {
    // A negative product of four entries, but zeros among the weights.
    let chain =
        DenseChain::new(vec![array![[1.0, 1.0], [1.0, -1.0]], array![[1.0, 0.0], [0.0, 1.0]]]).expect("fits");
    assert_eq!(chain.invariance(), Ok(()));
    // The products underflow, their signs do not.
    let tiny = f64::MIN_POSITIVE;
    let chain = DenseChain::new(vec![array![[tiny], [tiny]], array![[tiny, -tiny]]]).expect("fits");
    let witness = Witness { output: 0, input: 0, positive: vec![0], negative: vec![1] };
    assert_eq!(chain.invariance(), Err(witness));
    assert_eq!(measure(&chain.graph(false), Mask::Identity, &inputs(1, 1), 1.0)[0].ratios(), [0.0]);
    for seed in 0..5 {
        let chain = invariant_chain(&[70, 9, 20, 5], seed);
        assert_eq!(chain.invariance(), Ok(()));
        for (relu, mask) in [(false, Mask::Identity), (true, Mask::Local), (true, Mask::Stable)] {
            let radii = measure(&chain.graph(relu), mask, &inputs(3, 70), 0.1);
            assert!(radii.iter().all(|r| (r.tightness() - 1.0).abs() < 1e-12));
        }
        assert_eq!(DenseChain::from_graph(&chain.graph(true)).expect("a chain"), chain);
    }
    let conv = cnn(Architecture::Cnn3, [1, 8, 8], 10, Init::KaimingNormal, 0);
    assert!(DenseChain::from_graph(&conv).expect_err("not dense").to_string().contains("conv0"));
    assert!(DenseChain::new(vec![array![[1.0]], array![[1.0, 2.0]]]).is_err());
    assert!(DenseChain::new(Vec::new()).is_err());
}

#[test]
fn a_negative_minor_rules_invariance_out() {
    let mut negative = 0;
    for seed in 0..200 {
        let graph = dense_chain(&[3, 3, 3], false, Init::Gaussian, seed);
        let chain = DenseChain::from_graph(&graph).expect("a chain");
        let m = chain.layers()[1].dot(&chain.layers()[0]);
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let minor =
            |(i, k): (usize, usize), (j, l): (usize, usize)| m[[i, j]] * m[[i, l]] * m[[k, j]] * m[[k, l]];
        if pairs.iter().any(|&rows| pairs.iter().any(|&columns| minor(rows, columns) < 0.0)) {
            negative += 1;
            assert!(chain.invariance().is_err());
        }
    }
    assert!(negative > 50);
}

#[test]
fn radii_far_below_f64_keep_their_ratio() {
    let chain = |factor: f64| {
        let graph = dense_chain(&[8; 61], false, Init::Gaussian, 4);
        let layers = DenseChain::from_graph(&graph).expect("a chain").layers().to_vec();
        DenseChain::new(layers.into_iter().map(|w| w * factor).collect()).expect("a chain").graph(false)
    };
    let x = inputs(2, 8);
    let one = measure(&chain(1.0), Mask::Identity, &x, 0.5);
    for exponent in [-40, 40] {
        let scaled = measure(&chain(2f64.powi(exponent)), Mask::Identity, &x, 0.5);
        for (a, b) in one.iter().zip(&scaled) {
            assert_eq!(b.sums()[1].get(), if exponent < 0 { 0.0 } else { f64::INFINITY });
            assert!((b.sums()[1].log2() - a.sums()[1].log2() - 60.0 * f64::from(exponent)).abs() < 1e-6);
            for (a, b) in a.ratios().iter().zip(b.ratios()) {
                assert!(*a > 0.0 && (a / b - 1.0).abs() < 1e-12, "{a} {b}");
            }
        }
    }
    // A point has radius zero on both sides: intervals lose nothing.
    assert!(
        measure(&chain(1.0), Mask::Identity, &x, 0.0)
            .iter()
            .all(|r| r.tightness() == 1.0 && r.ratio_of_means() == 1.0)
    );
}

fn shipped(name: &str) -> (Graph, Array2<f32>, Vec<usize>) {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let graph = load(models.join(name), &LoadOptions::default()).expect("a shipped network");
    let labels = models.join("data/mnist-test-1000-labels.idx.gz");
    let data =
        Dataset::open(&models.join("data/mnist-test-1000-images.idx.gz"), Some(&labels), None).expect("data");
    let arrangement = data.arrange(&graph.input_shape).expect("fits");
    let pixels = (0..40).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
    let labels = data.labels().expect("labels")[..40].to_vec();
    (graph, Array2::from_shape_vec((40, 784), pixels).expect("40 images"), labels)
}

#[test]
fn results_do_not_depend_on_threads_or_batches() {
    let (graph, x, labels) = shipped("mnist-cnn-ibp0.1.onnx");
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let sampling = Sampling { points: 3, seed: 1 };
    for mask in [Mask::Local, Mask::Stable] {
        let run = |rows: std::ops::Range<usize>| {
            let x = x.slice(s![rows.clone(), ..]);
            let boxes = InputBox::linf(x, 0.1, Some((0.0, 1.0))).expect("boxes");
            let radii = Tightness::new(&graph, mask).expect("supported").measure(
                x,
                &boxes,
                Some(&labels[rows.clone()]),
            );
            let figures = CompanionFigures::new(&graph).expect("supported");
            let all = figures.measure(
                x,
                &boxes,
                &labels[rows.clone()],
                &rows.clone().collect::<Vec<_>>(),
                sampling,
            );
            radii.into_iter().zip(all.into_iter().map(|(c, m)| (c, m.lower().clone()))).collect::<Vec<_>>()
        };
        let two = pool(2).install(|| run(0..40));
        assert_eq!(pool(1).install(|| run(0..40)), two);
        assert_eq!(run(13..29), two[13..29]);
    }
}

#[test]
fn companion_figures_fit_together() {
    let mut tightness = Vec::new();
    for name in ["mnist-cnn-plain.onnx", "mnist-cnn-ibp0.1.onnx"] {
        let (graph, x, labels) = shipped(name);
        let figures = CompanionFigures::new(&graph).expect("supported");
        let boxes = InputBox::linf(x.view(), 0.1, Some((0.0, 1.0))).expect("boxes");
        let margins = tightrope::bounds::MarginBounds::new(&graph, tightrope::bounds::Method::Ibp)
            .bound(&boxes, &labels);
        let logits = Plan::new(&graph).run(x.view());
        let all = figures.measure(
            x.view(),
            &boxes,
            &labels,
            &(0..labels.len()).collect::<Vec<_>>(),
            Sampling { points: 6, seed: 2 },
        );
        for (i, (c, bounds)) in all.iter().enumerate() {
            for units in [c.at_eps, c.at_zero] {
                assert_eq!(units.dead + units.unstable + units.active, figures.units());
            }
            assert_eq!(c.at_zero.unstable, 0);
            assert!(0 < c.sampled_unstable && c.sampled_unstable <= c.at_eps.unstable);
            assert!(c.at_eps.dead <= c.at_zero.dead && c.at_eps.active <= c.at_zero.active);
            assert_eq!(bounds.lower().row(0), margins.lower().row(i));
            let others = (0..10).filter(|&k| k != labels[i]);
            let loss = (1.0 + others.clone().map(|k| (-margins.lower()[[i, k]]).exp()).sum::<f64>()).ln();
            // Beyond the range of exp the loss is the worst margin.
            assert!((c.ibp_loss - loss.min(-margins.least(i).min(-loss))).abs() < 1e-6 * (1.0 + c.ibp_loss));
            let margin =
                others.map(|k| logits[[i, labels[i]]] - logits[[i, k]]).fold(f32::INFINITY, f32::min);
            assert!((c.logit_margin - f64::from(margin)).abs() < 1e-4);
            assert!(c.box_radius > 0.0);
        }
        let none = figures.measure(
            x.view(),
            &boxes,
            &labels,
            &(0..labels.len()).collect::<Vec<_>>(),
            Sampling { points: 0, seed: 2 },
        );
        assert!(none.iter().all(|(c, _)| c.sampled_unstable == 0));
        let radii =
            Tightness::new(&graph, Mask::Local).expect("supported").measure(x.view(), &boxes, Some(&labels));
        tightness.push(radii.iter().map(Radii::tightness).sum::<f64>() / 40.0);
        for signs in weight_signs(&graph) {
            assert!(signs.positive + signs.negative <= 1.0 + 1e-12 && (0.0..=1.0).contains(&signs.imbalance));
        }
    }
    assert!(tightness[0] < 0.1 && tightness[1] > 0.7, "{tightness:?}");
}

#[test]
fn stable_masks_are_local_ones_where_nothing_is_unstable() {
    let graph = dense_chain(&[6, 20, 20, 4], true, Init::KaimingNormal, 9);
    let x = inputs(5, 6).mapv(|v| v - 0.4);
    let [local, stable, center] =
        [Mask::Local, Mask::Stable, Mask::Center].map(|m| measure(&graph, m, &x, 1e-7));
    assert_eq!(local, stable);
    assert_eq!(local, center);
    let wide = measure(&graph, Mask::Stable, &x, 100.0);
    let identity = measure(&graph, Mask::Identity, &x, 100.0);
    assert_eq!(wide, identity);
}

#[test]
fn true_tightness_of_small_networks() {
    let x = array![[0.2f32, -0.3]];
    let boxes = InputBox::linf(x.view(), 0.7, None).expect("a box");
    for seed in 0..3 {
        let graph = dense_chain(&[2, 8, 8, 3], true, Init::KaimingNormal, seed);
        for range in margin_ranges(&graph, &boxes, 0, 1, Budget::default()) {
            let [[l0, u0], [l1, u1], [l2, u2]] = [range.interval, range.outer, range.inner];
            assert!(l0 <= l1 && l1 <= l2 && l2 <= u2 && u2 <= u1 && u1 <= u0, "{range:?}");
            let [least, greatest] = range.tightness();
            assert!(greatest - least < 5e-3 && greatest < 0.95, "{range:?}");
            // A grid finds almost the whole range and nothing outside it.
            let grid = Array2::from_shape_fn((441, 2), |(i, j)| {
                x[[0, j]] + 0.07 * ([i % 21, i / 21][j] as f32 - 10.0)
            });
            let logits = Plan::new(&graph).run(grid.view());
            let margins = logits.rows().into_iter().map(|r| f64::from(r[1] - r[range.other]));
            let (low, high) =
                margins.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), m| (l.min(m), h.max(m)));
            assert!(
                l1 - 1e-5 <= low && high <= u1 + 1e-5 && high - low > 0.9 * (u2 - l2),
                "{range:?} {low} {high}"
            );
        }
    }
    // Where intervals are exact the true tightness is 1; a spent budget leaves a gap and says so.
    let one = dense_chain(&[2, 3], false, Init::Gaussian, 1);
    for range in margin_ranges(&one, &boxes, 0, 2, Budget::default()) {
        assert!(range.tightness()[0] > 0.99 && range.tightness()[1] > 1.0 - 1e-9, "{range:?}");
    }
    let graph = dense_chain(&[2, 8, 8, 3], true, Init::KaimingNormal, 0);
    let short = margin_ranges(&graph, &boxes, 0, 1, Budget { gap: 0.0, boxes: 1 });
    assert!(short.iter().all(|r| r.outer == r.interval && r.tightness()[0] < r.tightness()[1]));
}

#[test]
fn what_is_not_piecewise_linear_is_refused_by_name() {
    let mut graph = dense_chain(&[3, 4, 2], true, Init::KaimingNormal, 0);
    let set = |graph: &mut Graph, op| graph.nodes[1].op = op;
    set(&mut graph, Op::Elementwise(Arc::new(Abs)));
    assert!(Tightness::new(&graph, Mask::Local).is_ok());
    set(&mut graph, Op::Elementwise(Arc::new(LeakyRelu { slope: Periodic::constant(0.1) })));
    assert!(
        Tightness::new(&graph, Mask::Local).is_ok() && graph.nodes[1].op.analyses().contains(&"tightness")
    );
    set(&mut graph, Op::Elementwise(Arc::new(Sigmoid)));
    (graph.nodes[1].name, graph.nodes[1].origin) = ("squash".into(), "Sigmoid".into());
    let text = Tightness::new(&graph, Mask::Identity).err().expect("refused").to_string();
    assert!(text.contains("squash") && text.contains("Sigmoid") && text.contains("relu"), "{text}");
    assert!(CompanionFigures::new(&graph).is_err() && !graph.nodes[1].op.analyses().contains(&"tightness"));
    // What the output does not depend on does not matter.
    graph.output = 1;
    assert!(Tightness::new(&graph, Mask::Local).is_ok());
}

#[test]
fn generated_networks_survive_a_file() -> Result<(), NormalizeError> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut graphs = vec![dense_chain(&[5, 7, 7, 3], true, Init::Orthogonal, 2)];
    let architectures = [Architecture::Cnn3, Architecture::Cnn5];
    graphs.extend(architectures.map(|a| cnn(a, [2, 9, 8], 4, Init::KaimingUniform, 3)));
    graphs.push(cnn(Architecture::Cnn7Bn, [1, 4, 4], 3, Init::Ibp, 4));
    graphs.push(shipped("mnist-cnn-plain.onnx").0.normalized(&[0.5], &[0.25])?);
    for graph in &graphs {
        let path = folder.path().join("network.onnx");
        save(graph, &path).expect("is written");
        let loaded = load(&path, &LoadOptions::default()).expect("loads");
        let x = inputs(3, graph.input_len());
        assert_eq!(loaded.input_shape, graph.input_shape);
        assert_eq!(Plan::new(&loaded).run(x.view()), Plan::new(graph).run(x.view()));
        for mask in [Mask::Local, Mask::Identity] {
            for (a, b) in measure(graph, mask, &x, 0.1).iter().zip(measure(&loaded, mask, &x, 0.1)) {
                assert!((a.tightness() / b.tightness() - 1.0).abs() < 1e-9);
            }
        }
    }
    let coarse = graphs[0].clone().normalized(&[0.3], &[0.3])?;
    assert!(matches!(to_bytes(&coarse), Err(SaveError::Precision { .. })));
    let mut refused = graphs[0].clone();
    refused.nodes[1].op = Op::Elementwise(Arc::new(Sigmoid));
    assert!(to_bytes(&refused).expect_err("refused").to_string().contains("relu1"));
    assert!(load_bytes(&to_bytes(&graphs[0]).expect("bytes"), &LoadOptions::default()).is_ok());
    assert!(matches!(save(&graphs[0], "/nowhere/x.onnx"), Err(SaveError::Io { .. })));
    Ok(())
}

#[test]
fn initialisations_have_their_moments() {
    let (outputs, fan_in) = (80, 200);
    let expected = [
        (Init::Gaussian, 1.0),
        (Init::KaimingUniform, 2.0 / 200.0),
        (Init::KaimingNormal, 2.0 / 200.0),
        (Init::Orthogonal, 1.0 / 200.0),
        (Init::Ibp, std::f64::consts::TAU / 40_000.0),
    ];
    for (init, variance) in expected {
        let w = init.matrix(outputs, fan_in, 1, 0);
        let n = w.len() as f64;
        let (mean, square) = (w.sum() / n, w.mapv(|x| x * x).sum() / n);
        assert!(
            mean.abs() < 5.0 * (variance / n).sqrt() && (square / variance - 1.0).abs() < 0.06,
            "{init:?}"
        );
        assert_ne!(w, init.matrix(outputs, fan_in, 1, 1));
        assert_ne!(w, init.matrix(outputs, fan_in, 2, 0));
        assert_eq!(w, init.matrix(outputs, fan_in, 1, 0));
    }
    for (rows, columns) in [(20, 50), (50, 20)] {
        let w = Init::Orthogonal.matrix(rows, columns, 1, 0);
        let gram = if rows < columns { w.dot(&w.t()) } else { w.t().dot(&w) };
        assert!((gram - Array2::<f64>::eye(20)).iter().all(|x| x.abs() < 1e-6));
    }
}

#[test]
fn local_tightness_at_initialisation_falls_with_depth() {
    let x = inputs(4, 3 * 16 * 16);
    let tightness = [Architecture::Cnn3, Architecture::Cnn5, Architecture::Cnn7Bn].map(|a| {
        let graph = cnn(a, [3, 16, 16], 10, Init::KaimingUniform, 1);
        measure(&graph, Mask::Local, &x, 2.0 / 255.0).iter().map(Radii::tightness).sum::<f64>() / 4.0
    });
    // The paper stores .0249, 3.4e-4 and 8.5e-8 for its own data and seeds.
    assert!((0.008..0.1).contains(&tightness[0]), "{tightness:?}");
    assert!((3e-5..3e-3).contains(&tightness[1]), "{tightness:?}");
    assert!((1e-9..1e-5).contains(&tightness[2]), "{tightness:?}");
}
