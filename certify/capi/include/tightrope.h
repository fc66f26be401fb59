/* Tightrope: certifies the robustness of neural networks. Apache-2.0.
 *
 * Made from certify/capi/src by `cargo xtask header`. */

#ifndef TIGHTROPE_H
#define TIGHTROPE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// What a call ended with.
typedef enum tightrope_status {
  // All went well.
  TIGHTROPE_OK = 0,
  // A network that cannot be loaded, or that an analysis does not cover.
  TIGHTROPE_MODEL_ERROR = 1,
  // Arguments that cannot be used.
  TIGHTROPE_INPUT_ERROR = 2,
  // A base classifier that returned an error.
  TIGHTROPE_CLASSIFIER_ERROR = 3,
  // A defect of this library, caught. What was written to buffers is not defined.
  TIGHTROPE_PANIC = 4,
  // The caller's `tightrope_progress` ended the call. Results of inputs that were not reached say nothing.
  TIGHTROPE_INTERRUPTED = 5,
} tightrope_status;

// A norm of perturbations.
typedef enum tightrope_norm {
  // Greatest entry.
  TIGHTROPE_LINF = 0,
  // Euclidean length.
  TIGHTROPE_L2 = 1,
  // Sum of absolute values.
  TIGHTROPE_L1 = 2,
} tightrope_norm;

// How bounds are computed, from the fastest to the tightest.
typedef enum tightrope_method {
  // No bounds: an attack alone.
  TIGHTROPE_NONE = 0,
  // Interval bound propagation.
  TIGHTROPE_IBP = 1,
  // One backward pass over the intervals of IBP.
  TIGHTROPE_CROWN_IBP = 2,
  // Backward passes for every value.
  TIGHTROPE_CROWN = 3,
  // The same with optimised slopes.
  TIGHTROPE_ALPHA_CROWN = 4,
  // For each input the first of these that certifies it, with `TIGHTROPE_LIPSCHITZ` behind
  // `TIGHTROPE_IBP` for balls of the l2 or l1 norm.
  TIGHTROPE_BEST = 5,
  // The margin at the input less its Lipschitz constant times the l2 distance.
  TIGHTROPE_LIPSCHITZ = 6,
  // `TIGHTROPE_BEST`, then branch and bound until the input is certified or falsified.
  TIGHTROPE_COMPLETE = 7,
} tightrope_method;

// What is known of one input.
typedef enum tightrope_verdict {
  // Neither is proved.
  TIGHTROPE_UNKNOWN = 0,
  // Classified correctly, and provably so for every perturbation.
  TIGHTROPE_CERTIFIED = 1,
  // A perturbation, or the input itself, is classified otherwise.
  TIGHTROPE_FALSIFIED = 2,
} tightrope_verdict;

// The answer to a question of a box.
typedef enum tightrope_answer {
  // No point of the box is a violation, in any evaluation in float32.
  TIGHTROPE_UNSAT = 0,
  // A point is: the witness, as the float32 network computes.
  TIGHTROPE_SAT = 1,
  // Neither is proved.
  TIGHTROPE_OPEN = 2,
  // Neither is proved, and time is over or the caller wanted no more.
  TIGHTROPE_TIMED_OUT = 3,
} tightrope_answer;

// Distribution of the noise.
typedef enum tightrope_noise {
  // Gaussian, drawn behind a dense first layer of a network to at most half as many entries, where it
  // is the same at less cost; l2 radii.
  TIGHTROPE_GAUSSIAN = 0,
  // Gaussian on the grid of 8-bit pixels, exact; l2 radii.
  TIGHTROPE_LATTICE = 1,
  // Uniform; l1 radii.
  TIGHTROPE_UNIFORM = 2,
  // Laplace; l1 radii.
  TIGHTROPE_LAPLACE = 3,
  // Gaussian, drawn on the input of every network, as for classifiers of the caller; l2 radii.
  TIGHTROPE_GAUSSIAN_INPUT = 4,
} tightrope_noise;

// A loaded network. Functions that take it as `const` may run at the same time on several threads.
typedef struct tightrope_network tightrope_network;

// Told now and then how many inputs (of `tightrope_verify`: subproblems) are done; anything but 0 ends the
// call.
typedef int (*tightrope_progress)(void *user, uint64_t done);

// Where a network comes from, and what stands before it. What is 0 or null is not given.
typedef struct tightrope_model {
  // The file (UTF-8), plain or gzipped; or
  const char *path;
  // the bytes of one, without external data,
  const uint8_t *data;
  // and how many.
  size_t data_len;
  // Shape of one input, for networks that leave it open,
  const size_t *input_shape;
  // and how many axes it has.
  size_t input_axes;
  // Normalisation before the network, by which perturbations are of the pixels before it: one mean, or one
  // per channel,
  const double *mean;
  // as many standard deviations,
  const double *std;
  // and how many of each.
  size_t channels;
} tightrope_model;

// The perturbations around an input.
typedef struct tightrope_region {
  // Radius.
  double eps;
  // Norm: a `tightrope_norm`.
  uint32_t norm;
  // Whether perturbed inputs stay between `clip_low` and `clip_high`.
  bool clip;
  // Least value of an entry.
  double clip_low;
  // Greatest value of an entry.
  double clip_high;
} tightrope_region;

// The search for counterexamples by projected gradient descent.
typedef struct tightrope_attack {
  // Gradient steps of each restart.
  uint32_t steps;
  // Starting points.
  uint32_t restarts;
  // Seed of the starting points.
  uint64_t seed;
} tightrope_attack;

// The result for one input.
typedef struct tightrope_certificate {
  // The class that the network gives it; -1 if a logit is NaN.
  int64_t predicted;
  // A `tightrope_verdict`.
  uint32_t verdict;
  // The `tightrope_method` tried last.
  uint32_t bounded_by;
  // Lower bound on the least margin `logit_label - logit_other`; NaN without a method.
  double margin;
  // The least margin that the attack found; NaN without one.
  double attack_margin;
} tightrope_certificate;

// Tightness of interval bounds for one input; a diagnostic, not a bound.
typedef struct tightrope_tightness_figures {
  // Mean over margins of optimal over layer-wise radius, in [0, 1].
  double tightness;
  // Mean optimal over mean layer-wise radius.
  double ratio_of_means;
  // Units that intervals prove dead, leave open, and prove active.
  size_t dead;
  // See `dead`.
  size_t unstable;
  // See `dead`.
  size_t active;
  // Mean radius of the intervals of the outputs.
  double box_radius;
  // `logit_label` minus the greatest other logit.
  double logit_margin;
} tightrope_tightness_figures;

// How a search ended.
typedef struct tightrope_outcome {
  // A `tightrope_answer`.
  uint32_t answer;
  // Parts of the box that were bounded.
  uint64_t subproblems;
  // The least bound before anything was cut.
  double root;
  // The least bound at the end, where the search is open.
  double lower;
  // Seconds that it took.
  double seconds;
} tightrope_outcome;

// How to smooth. Start from `tightrope_smoothing_defaults()` and change what is wanted.
typedef struct tightrope_smoothing {
  // Scale of the noise: standard deviation, half-width of uniform noise, scale of Laplace noise.
  double sigma;
  // Probability with which a radius may be false.
  double alpha;
  // A `tightrope_noise`.
  uint32_t noise;
  // Samples for the estimation; with `radius` or `tolerance` the most.
  uint32_t n;
  // Samples for the selection; 0 for a share of `n`, at least 100.
  uint32_t n0;
  // Simplex map: "hardmax", "softmax:T", "sparsemax:T"; NULL for the most promising one.
  const char *map;
  // Confidence bound, such as "clopper-pearson" or "bernstein"; NULL for that of the map.
  const char *bound;
  // "one-sided", "two-sided" or "pairwise"; NULL for that of the map.
  const char *rule;
  // Stop as soon as it is settled whether this radius is certified; 0 for never.
  double radius;
  // Plan the samples of each input, up to `n`, so that more could gain less than this fraction of the
  // radius; 0 for all of `n`.
  double tolerance;
  // Seed of all noise.
  uint64_t seed;
  // Position of the first input in its data set: what is drawn depends on it and the seed alone.
  uint64_t first;
  // Of a network with Gaussian noise: a Lipschitz constant of its logits that the caller vouches for, or any
  // number below 0 for that of `tightrope_lipschitz`; adds radii that know it. 0 for none.
  double lipschitz;
} tightrope_smoothing;

// The result for one input.
typedef struct tightrope_smoothed {
  // The certified class; -1 for an abstention.
  int64_t predicted;
  // The certified radius; 0 for an abstention.
  double radius;
  // Lower bound on the class's smoothed score.
  double p_lower;
  // Upper bound on every other score; 1 where it was not bounded.
  double p_upper;
  // Noisy evaluations used, those of the selection included.
  uint64_t samples;
} tightrope_smoothed;

// A base classifier: reads `samples` noisy inputs of `entries` numbers each, and writes `classes`
// logits for each to `logits`. `user` is what the caller gave. Returns 0, or any other number to end
// the call with `TIGHTROPE_CLASSIFIER_ERROR`. Called on the thread that asked. It may call this
// library, but must return: no exceptions, no `longjmp`.
typedef int (*tightrope_classifier)(void *user,
                                    const float *noisy,
                                    size_t samples,
                                    size_t entries,
                                    float *logits,
                                    size_t classes);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Has `progress` called with `user` during the calls of this thread from here on, on this thread; nobody for a
// null pointer.
//
// # Safety
// `progress` may be called with `user` during any later call of this thread, and must return.
void tightrope_watch(tightrope_progress progress,
                     void *user);

// Has all calls of this process compute on so many threads; 0 for all cores. Once, before anything else is
// computed. No result depends on it.
enum tightrope_status tightrope_set_threads(size_t threads);

// The message of the last call on this thread that failed; empty if none did. Valid until the next
// call on this thread fails.
const char *tightrope_last_error(void);

// The version of this library, such as "0.1.0".
const char *tightrope_version(void);

// Loads an ONNX network, plain or gzipped, from the file `path` (UTF-8) into `*network`, to be given
// back to `tightrope_network_free`.
//
// # Safety
// Pointers are null, or valid as their types say; `path` ends in 0.
enum tightrope_status tightrope_network_load(const char *path, struct tightrope_network **network);

// Loads an ONNX network as `model` says into `*network`, to be given back to `tightrope_network_free`.
//
// # Safety
// Pointers are null, or valid for as many values as said; the path ends in 0.
enum tightrope_status tightrope_network_open(const struct tightrope_model *model,
                                             struct tightrope_network **network);

// An upper bound on the Lipschitz constant of the logits (l2 to l2), which holds under floating point, into
// `*constant`. A network for which none is known is a `TIGHTROPE_MODEL_ERROR` that names the node.
//
// # Safety
// Pointers are null, or valid as their types say.
enum tightrope_status tightrope_lipschitz(const struct tightrope_network *network, double *constant);

// Frees a network, once; nothing happens for a null pointer.
//
// # Safety
// `network` is null, or was made by this library and is used by nobody any more.
void tightrope_network_free(struct tightrope_network *network);

// Number of entries of one input; 0 for a null pointer.
//
// # Safety
// `network` is null or a loaded network.
size_t tightrope_network_inputs(const struct tightrope_network *network);

// Number of outputs: the classes of a classifier; 0 for a null pointer.
//
// # Safety
// `network` is null or a loaded network.
size_t tightrope_network_classes(const struct tightrope_network *network);

// Logits of `n` inputs: `x` holds `n * inputs` numbers, `logits` takes `n * classes` (`logits_len`).
//
// # Safety
// Pointers are null, or valid for as many values as said.
enum tightrope_status tightrope_evaluate(const struct tightrope_network *network,
                                         const float *x,
                                         size_t n,
                                         float *logits,
                                         size_t logits_len);

// Bounds on the outputs over all perturbations: `lower` and `upper` take `n * classes` numbers each
// (`bounds_len`); both are NaN where the network may be undefined. `method` is a `tightrope_method`
// other than `TIGHTROPE_NONE`.
//
// # Safety
// Pointers are null, or valid for as many values as said.
enum tightrope_status tightrope_bounds(const struct tightrope_network *network,
                                       const float *x,
                                       size_t n,
                                       const struct tightrope_region *region,
                                       uint32_t method_number,
                                       double *lower,
                                       double *upper,
                                       size_t bounds_len);

// Certifies that no perturbation in `region` changes the decision on any of `n` inputs `x` with
// labels `y`, or refutes it by an attack (none for a null pointer). `TIGHTROPE_COMPLETE` leaves an input open
// after `timeout_seconds`, or never if that is 0. Writes `n` certificates; where
// they are not null, also `n * classes` lower bounds on the margins (`margins_len`; infinite at the
// label, NaN without a method) to `margins`, and the best point that the attack or the search found for each
// input (`n * inputs` numbers, `points_len`; the input itself where there was none) to `points`.
//
// # Safety
// Pointers are null, or valid for as many values as said.
enum tightrope_status tightrope_certify(const struct tightrope_network *network,
                                        const float *x,
                                        const int64_t *y,
                                        size_t n,
                                        const struct tightrope_region *region,
                                        uint32_t method_number,
                                        const struct tightrope_attack *attack,
                                        double timeout_seconds,
                                        struct tightrope_certificate *certificates,
                                        double *margins,
                                        size_t margins_len,
                                        float *points,
                                        size_t points_len);

// Measures how tight interval bounds are for `n` inputs `x` with labels `y` over the l-inf boxes of
// `region`, on the linear network that is active at each input.
//
// # Safety
// Pointers are null, or valid for as many values as said.
enum tightrope_status tightrope_tightness(const struct tightrope_network *network,
                                          const float *x,
                                          const int64_t *y,
                                          size_t n,
                                          const struct tightrope_region *region,
                                          struct tightrope_tightness_figures *figures);

// Decides whether some point between `lower` and `upper` (an entry each for every entry of the input) has
// an output that must not be: one with `c . y <= b` for all rows of one of the disjuncts. `rows` holds the
// rows `c` one after the other, a coefficient for each class, `bounds` their `b`, `counts` how many rows each
// of the `disjuncts` disjuncts has. The search gives up after `timeout_seconds`, or never if that is 0. The
// point goes to `witness`, which may be null, if the answer is `TIGHTROPE_SAT`.
//
// # Safety
// Pointers are null, or valid for as many values as said.
enum tightrope_status tightrope_verify(const struct tightrope_network *network,
                                       const double *lower,
                                       const double *upper,
                                       const double *rows,
                                       const double *bounds,
                                       const size_t *counts,
                                       size_t disjuncts,
                                       double timeout_seconds,
                                       struct tightrope_outcome *outcome,
                                       float *witness,
                                       size_t witness_len);

// sigma .25, alpha .001, 100,000 samples after 2,000, Gaussian noise, the most promising map.
struct tightrope_smoothing tightrope_smoothing_defaults(void);

// Certifies radii of a network, smoothed, at `n` inputs `x`; writes `n` results.
//
// # Safety
// Pointers are null, or valid for as many values as said; strings end in 0.
enum tightrope_status tightrope_smooth(const struct tightrope_network *network,
                                       const float *x,
                                       size_t n,
                                       const struct tightrope_smoothing *how,
                                       struct tightrope_smoothed *results);

// Certifies radii of a base classifier of the caller, smoothed, at `n` inputs `x` of `entries`
// numbers each; writes `n` results.
//
// # Safety
// Pointers are null, or valid for as many values as said; strings end in 0; `classifier` does what
// its type says.
enum tightrope_status tightrope_smooth_classifier(tightrope_classifier classifier,
                                                  void *user,
                                                  size_t classes,
                                                  const float *x,
                                                  size_t n,
                                                  size_t entries,
                                                  const struct tightrope_smoothing *how,
                                                  struct tightrope_smoothed *results);

// Clopper-Pearson bounds on a success probability from `successes` of `trials`, each wrong with
// probability at most `alpha`. `lower` or `upper` may be null.
//
// # Safety
// Pointers are null or valid.
enum tightrope_status tightrope_clopper_pearson(uint32_t successes,
                                                uint32_t trials,
                                                double alpha,
                                                double *lower,
                                                double *upper);

// The certified l2 radius of Gaussian smoothing from a lower bound on the class's score and an upper
// bound on every other (1 if there is none), rounded down; 0 where nothing is certified.
//
// # Safety
// `radius` is null or valid.
enum tightrope_status tightrope_radius(double p_lower, double p_upper, double sigma, double *radius);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TIGHTROPE_H */
