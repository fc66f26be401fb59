//! Certification by smoothing of one input after the other, for any base classifier.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::Array2;
use thiserror::Error;

use super::noise::{Noise, OffGrid};
use super::procedure::{
    Bound, Candidate, CandidateError, Estimation, Outcome, ProcedureError, RadiusRule, RuleName, SampleError,
    Selection, Setup, Stopping,
};
use super::quantity::{Alpha, OutOfRange};
use super::radius::Lipschitz;
use super::row_space::RowSpace;
use super::sampler::{NoisyInputs, Sampler};
use super::simplex::SimplexMap;
use crate::exec::{Plan, Wide};
use crate::graph::Graph;
use crate::lipschitz::{EvaluationError, Network};
use crate::random::InputStreams;
use crate::rounding::directed::{add_up, mul_up};

/// Samples asked for at once; does not influence any result.
const BATCH: u32 = 4096;

/// What is asked of a [`Certifier`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The noise.
    pub noise: Noise,
    /// The simplex map; none for the most promising one of [`Candidate::auto`].
    pub map: Option<SimplexMap>,
    /// The confidence bound; none for Clopper-Pearson with hardmax, empirical Bernstein else, and where a
    /// radius is settled [`Bound::TestMartingale`] and [`Bound::Betting`]. Without a map, that of hardmax,
    /// Clopper-Pearson or its randomized form, which none stands for.
    pub bound: Option<Bound>,
    /// The radius rule; none for one-sided with hardmax, else two-sided where the noise allows it, and
    /// pairwise where a radius is settled.
    pub rule: Option<RuleName>,
    /// The risk of a false certificate, for each input.
    pub alpha: Alpha,
    /// Samples for the selection; none for [`Stopping::pilot`].
    pub n0: Option<u32>,
    /// When the estimation stops.
    pub stopping: Stopping,
    /// The seed of all noise.
    pub seed: u64,
}

/// A network as the base classifier of a [`Certifier`].
pub struct BaseNetwork {
    evaluation: Evaluation,
    row_space: Option<RowSpace>,
}

enum Evaluation {
    /// In f32.
    Fast(Plan),
    /// In f64, for radii that are charged for rounding.
    Wide(Wide),
}

impl BaseNetwork {
    /// What [`Certifier::certify`] is to be given for the network's input `x`.
    ///
    /// # Panics
    /// If it has not as many entries as the network's.
    #[must_use]
    pub fn input<'a>(&self, x: &'a [f32]) -> Cow<'a, [f32]> {
        self.row_space.as_ref().map_or(Cow::Borrowed(x), |cut| Cow::Owned(cut.project(x)))
    }

    /// The network's logits (`samples x classes`) on noisy inputs, in parallel.
    #[must_use]
    pub fn logits(&self, inputs: &NoisyInputs, range: Range<u32>) -> Array2<f32> {
        match &self.evaluation {
            Evaluation::Fast(plan) => Sampler::new(plan, inputs).logits(range),
            Evaluation::Wide(wide) => wide.run(inputs.batch(range).view()),
        }
    }
}

/// Smoothing with fixed options, for any number of inputs.
#[derive(Debug)]
pub struct Certifier {
    options: Options,
    candidates: Vec<Candidate>,
    logits: Option<(Lipschitz, EvaluationError)>,
}

/// Options that have no meaning together.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// A combination of map, bound and rule without meaning.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// A constant that cannot be used.
    #[error(transparent)]
    Constant(#[from] OutOfRange),
    /// A rule, or a bound for other maps than hardmax, without a map.
    #[error(
        "found a radius rule, or a bound for soft scores, with the map auto, which brings its own; accepted: \
         the bounds clopper-pearson and randomized-clopper-pearson, or bound and rule with a named map"
    )]
    Auto,
    /// Lipschitz-aware radii with other noise than Gaussian.
    #[error("found a Lipschitz constant with {0}; accepted: gaussian, gaussian-input or lattice noise")]
    Noise(Noise),
    /// A network that cannot be bounded.
    #[error(
        "no Lipschitz constant is known for the node {0}, and without one neither the logits nor the \
         rounding of their evaluation can be bounded; accepted: networks for which `tightrope lipschitz` \
         finds a constant"
    )]
    NoConstant(String),
}

/// Why an input could be neither certified nor abstained on.
#[derive(Debug, Error)]
pub enum CertifierError {
    /// An input that the noise cannot be added to.
    #[error(transparent)]
    OffGrid(#[from] OffGrid),
    /// An aware radius that has no meaning for this input.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// The procedure failed, perhaps because the classifier did.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl Certifier {
    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`OptionsError`] for those without meaning.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let candidates = candidates(&options)?;
        Ok(Self { options, candidates, logits: None })
    }

    /// The noise.
    #[must_use]
    pub fn noise(&self) -> &Noise {
        &self.options.noise
    }

    /// Adds radii that know a Lipschitz constant (l2) of the logits of the network that will be the base
    /// classifier, evaluated by [`Wide`]: `constant` on the caller's word, or none for
    /// the one of [`Network::report`]. With a named map only they are used.
    ///
    /// # Errors
    /// [`OptionsError`] for other noise than Gaussian, and for networks without a known constant.
    pub fn aware(mut self, graph: &Graph, constant: Option<Lipschitz>) -> Result<Self, OptionsError> {
        if self.options.noise.gaussian().is_none() {
            return Err(OptionsError::Noise(self.options.noise));
        }
        let network = Network::new(graph);
        let report = network.report();
        let (Some(total), Some(error)) = (report.total, network.evaluation_error_wide()) else {
            return Err(OptionsError::NoConstant(report.obstacle.unwrap_or_else(|| "the output".into())));
        };
        // A network that is constant has any positive number.
        let constant = constant.map_or_else(|| Lipschitz::new(total.max(1e-100)), Ok)?;
        self.logits = Some((constant, error));
        Ok(self)
    }

    /// A network as this certifier asks it. With a Lipschitz constant it is evaluated in f64, so that
    /// the rounding costs little, else as fast as possible.
    #[must_use]
    pub fn base(&self, graph: &Graph) -> BaseNetwork {
        let aware = self.logits.is_some();
        let cut = !aware && self.options.noise.narrow();
        let row_space = if cut { RowSpace::new(graph) } else { None };
        let graph = row_space.as_ref().map_or(graph, RowSpace::graph);
        let evaluation =
            if aware { Evaluation::Wide(Wide::new(graph)) } else { Evaluation::Fast(Plan::fast(graph)) };
        BaseNetwork { evaluation, row_space }
    }

    /// Certifies the input `x` with this index or abstains. `sample` answers noisy inputs, of which it
    /// asks [`NoisyInputs`] for those of a range of sample indices, with logits (`samples x classes`). For
    /// a network, `x` is [`BaseNetwork::input`] and `sample` is [`BaseNetwork::logits`].
    ///
    /// # Errors
    /// [`CertifierError`] for an input off the lattice's grid, or if `sample` fails.
    pub fn certify(
        &self,
        index: u64,
        x: &[f32],
        mut sample: impl FnMut(&NoisyInputs, Range<u32>) -> Result<Array2<f32>, SampleError>,
    ) -> Result<Outcome, CertifierError> {
        let options = &self.options;
        let streams = InputStreams::new(options.seed, index);
        let inputs = NoisyInputs::new(&options.noise, streams, x)?;
        let mut sample = |range| sample(&inputs, range);
        let setup = Setup {
            noise: options.noise.clone(),
            entries: x.len(),
            charge: options.noise.charge(x.len()),
            alpha: options.alpha,
            n0: options.n0.unwrap_or_else(|| options.stopping.pilot()),
            batch: BATCH,
            streams,
        };
        let candidates = self.candidates_at(x)?;
        let selection = Selection::run(setup, &candidates, options.stopping, &mut sample)?;
        Ok(Estimation::new(selection).run(&mut sample)?)
    }

    /// The candidates of one input: with a constant, of each one whose map has slopes also the
    /// Lipschitz-aware form, or that alone if a map was named.
    fn candidates_at(&self, x: &[f32]) -> Result<Vec<Candidate>, CandidateError> {
        let Some((constant, error)) = &self.logits else { return Ok(self.candidates.clone()) };
        let error = self.evaluation_error(x, *constant, error);
        let named = self.options.map.is_some();
        let mut bases =
            if named { self.candidates.clone() } else { Candidate::auto(Bound::RandomizedClopperPearson) };
        // One for each map: the rule is replaced.
        bases.reverse();
        bases.dedup_by_key(|c| c.map());
        bases.reverse();
        let aware = bases.iter().map(|c| c.aware(*constant, error));
        if named {
            return aware.collect();
        }
        Ok(self.candidates.iter().copied().chain(aware.flatten()).collect())
    }

    /// Bound on the mean l2 distance between the logits that are sampled at `x` and the exact ones of
    /// the network under real Gaussian noise, for logits with this Lipschitz constant; infinite where
    /// there is none. Noise that moves the noisy input moves the logits by their constant times that.
    fn evaluation_error(&self, x: &[f32], logits: Lipschitz, evaluation: &EvaluationError) -> f64 {
        let Some(sigma) = self.options.noise.gaussian() else { return f64::INFINITY };
        let moved = self.options.noise.moved(x.len());
        add_up(evaluation.mean(x, sigma.get(), moved), mul_up(logits.get(), moved))
    }
}

/// The combinations that the selection chooses from.
fn candidates(options: &Options) -> Result<Vec<Candidate>, OptionsError> {
    let gaussian = options.noise.gaussian().is_some();
    let settles = matches!(options.stopping, Stopping::Settle { .. });
    // Other noise than Gaussian has a radius for one mean only.
    let fits = |rule: RadiusRule| gaussian || rule.any_noise();
    let Some(map) = options.map else {
        let bound = match options.bound {
            None if settles => Bound::TestMartingale,
            None => Bound::RandomizedClopperPearson,
            Some(bound) => bound,
        };
        let hard = [Bound::ClopperPearson, Bound::RandomizedClopperPearson, Bound::TestMartingale];
        if options.rule.is_some() || !hard.contains(&bound) {
            return Err(OptionsError::Auto);
        }
        return Ok(Candidate::auto(bound).into_iter().filter(|c| fits(c.rule())).collect());
    };
    let hardmax = map == SimplexMap::Hardmax;
    let rule = options.rule.unwrap_or(match (settles, hardmax, gaussian) {
        (true, ..) => RuleName::Pairwise,
        (false, false, true) => RuleName::TwoSided,
        _ => RuleName::OneSided,
    });
    let tests = settles && rule != RuleName::TwoSided;
    let bound = options.bound.unwrap_or(match (tests, hardmax) {
        (true, true) => Bound::TestMartingale,
        (true, false) => Bound::Betting,
        (false, true) => Bound::ClopperPearson,
        (false, false) => Bound::Bernstein,
    });
    // What was asked for by name is refused where it has no meaning; weights are ours to leave out.
    let rules = rule.rules().into_iter().filter(|&rule| rule.weight().is_none() || fits(rule));
    rules.map(|rule| Ok(Candidate::new(map, bound, rule)?)).collect()
}
