/* Every function of the header, with what it promises and what it refuses. Run with the folder of the
 * shipped networks; ends with 0 if all holds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tightrope.h"

static int failures = 0;

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
                    tightrope_last_error());                                           \
            failures++;                                                                \
        }                                                                              \
    } while (0)

/* The call is refused with this status and a message that holds this text. */
#define REFUSED(call, status, text)                                                    \
    do {                                                                               \
        CHECK((call) == (status));                                                     \
        CHECK(strstr(tightrope_last_error(), text) != NULL);                           \
    } while (0)

enum { N = 2, INPUTS = 784, CLASSES = 10 };

struct base {
    const tightrope_network *network;
    int calls, fails_at;
};

static int classify(void *user, const float *noisy, size_t samples, size_t entries, float *logits,
                    size_t classes)
{
    struct base *base = user;
    if (++base->calls == base->fails_at)
        return 7;
    return entries == INPUTS &&
                   tightrope_evaluate(base->network, noisy, samples, logits, samples * classes) == TIGHTROPE_OK
               ? 0
               : 1;
}

static void load(const char *folder, const char *name, tightrope_network **network)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK(tightrope_network_load(path, network) == TIGHTROPE_OK);
}

static void inputs(float *x)
{
    for (int n = 0; n < N; n++)
        for (int i = 0; i < INPUTS; i++)
            x[n * INPUTS + i] = i % 28 >= 13 - 4 * n && i % 28 <= 15 - n && i / 28 >= 5 && i / 28 <= 22 ? 1 : 0;
}

static void bounds_and_certificates(const char *folder, const float *x)
{
    tightrope_network *network = NULL;
    load(folder, "mnist-cnn-ibp0.1.onnx", &network);
    CHECK(tightrope_network_inputs(network) == INPUTS && tightrope_network_classes(network) == CLASSES);

    float logits[N * CLASSES];
    CHECK(tightrope_evaluate(network, x, N, logits, N * CLASSES) == TIGHTROPE_OK);
    int64_t y[N];
    for (int n = 0; n < N; n++) {
        y[n] = 0;
        for (int c = 1; c < CLASSES; c++)
            if (logits[n * CLASSES + c] > logits[n * CLASSES + y[n]])
                y[n] = c;
    }

    tightrope_region region = {.eps = 0.02, .norm = TIGHTROPE_LINF, .clip = true, .clip_low = 0, .clip_high = 1};
    double lower[N * CLASSES], upper[N * CLASSES], tighter[N * CLASSES], above[N * CLASSES];
    CHECK(tightrope_bounds(network, x, N, &region, TIGHTROPE_IBP, lower, upper, N * CLASSES) == TIGHTROPE_OK);
    CHECK(tightrope_bounds(network, x, N, &region, TIGHTROPE_CROWN, tighter, above, N * CLASSES) == TIGHTROPE_OK);
    for (int i = 0; i < N * CLASSES; i++) {
        CHECK(lower[i] <= tighter[i] && above[i] <= upper[i]);
        CHECK(tighter[i] <= logits[i] + 1e-4 && logits[i] <= above[i] + 1e-4);
    }

    tightrope_attack attack = {.steps = 5, .restarts = 2, .seed = 1};
    tightrope_certificate found[N];
    double margins[N * CLASSES];
    float points[N * INPUTS];
    CHECK(tightrope_certify(network, x, y, N, &region, TIGHTROPE_BEST, &attack, 0, found, margins,
                            N * CLASSES, points, N * INPUTS) ==
          TIGHTROPE_OK);
    for (int n = 0; n < N; n++) {
        double least = INFINITY;
        for (int c = 0; c < CLASSES; c++)
            least = fmin(least, margins[n * CLASSES + c]);
        CHECK(found[n].predicted == y[n] && found[n].margin == least && isinf(margins[n * CLASSES + y[n]]));
        CHECK((found[n].verdict == TIGHTROPE_CERTIFIED) == (least > 0));
        CHECK(found[n].attack_margin >= least - 1e-4);
        for (int i = 0; i < INPUTS; i++)
            CHECK(fabs((double)points[n * INPUTS + i] - x[n * INPUTS + i]) <= region.eps);
    }
    /* A label that is not the class is refuted by the input itself. */
    int64_t wrong[N] = {(y[0] + 1) % CLASSES, (y[1] + 1) % CLASSES};
    CHECK(tightrope_certify(network, x, wrong, N, &region, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0) == TIGHTROPE_OK);
    CHECK(found[0].verdict == TIGHTROPE_FALSIFIED && isnan(found[0].attack_margin));

    tightrope_tightness_figures figures[N];
    CHECK(tightrope_tightness(network, x, y, N, &region, figures) == TIGHTROPE_OK);
    for (int n = 0; n < N; n++) {
        CHECK(figures[n].tightness > 0 && figures[n].tightness <= 1);
        CHECK(figures[n].dead + figures[n].unstable + figures[n].active == 3136 + 1568 + 100);
    }

    /* Without a method and an attack there is nothing to say, which is said. */
    CHECK(tightrope_certify(network, x, y, N, &region, TIGHTROPE_NONE, NULL, 0, found, margins, N * CLASSES, points,
                            N * INPUTS) == TIGHTROPE_OK);
    for (int i = 0; i < N * CLASSES; i++)
        CHECK(isnan(margins[i]));
    CHECK(found[0].verdict == TIGHTROPE_UNKNOWN && memcmp(points, x, sizeof points) == 0);

    int64_t outside[N] = {10, 0};
    tightrope_region ball = region, empty = region;
    ball.norm = TIGHTROPE_L2;
    empty.clip_low = 2;
    REFUSED(tightrope_certify(network, x, outside, N, &region, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "0..10");
    REFUSED(tightrope_certify(network, x, y, N, &region, 9, NULL, 0, found, NULL, 0, NULL, 0), TIGHTROPE_INPUT_ERROR,
            "tightrope_method");
    REFUSED(tightrope_certify(network, x, y, N, &empty, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "clipping");
    REFUSED(tightrope_certify(NULL, x, y, N, &region, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "network: found a null pointer");
    REFUSED(tightrope_certify(network, NULL, y, N, &region, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "x: found a null pointer");
    REFUSED(tightrope_tightness(network, x, y, N, &ball, figures), TIGHTROPE_INPUT_ERROR, "l-inf");
    REFUSED(tightrope_bounds(network, x, N, &region, TIGHTROPE_NONE, lower, upper, N * CLASSES),
            TIGHTROPE_INPUT_ERROR, "TIGHTROPE_NONE");
    REFUSED(tightrope_evaluate(network, x, N, logits, CLASSES), TIGHTROPE_INPUT_ERROR, "accepted: 20");
    REFUSED(tightrope_certify(network, x, y, N, &region, TIGHTROPE_IBP, NULL, 0, found, margins, CLASSES, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "margins: found a length of 10; accepted: 20");
    tightrope_attack endless = {.steps = 1, .restarts = UINT32_MAX, .seed = 0};
    REFUSED(tightrope_certify(network, x, y, N, &region, TIGHTROPE_NONE, &endless, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "restarts");
    tightrope_region huge = {.eps = 1e308, .norm = TIGHTROPE_LINF};
    REFUSED(tightrope_tightness(network, x, y, N, &huge, figures), TIGHTROPE_INPUT_ERROR, "overflow");
    tightrope_network_free(network);
}

static void smoothing(const char *folder, const float *x)
{
    tightrope_network *network = NULL;
    load(folder, "mnist-mlp-noise25.onnx", &network);
    tightrope_smoothing how = tightrope_smoothing_defaults();
    CHECK(how.sigma == 0.25 && how.alpha == 0.001 && how.n == 100000 && how.n0 == 0);
    how.n = 300;
    how.n0 = 20;
    how.map = "hardmax";
    how.seed = 5;
    tightrope_smoothed built_in[N], called[N];
    CHECK(tightrope_smooth(network, x, N, &how, built_in) == TIGHTROPE_OK && built_in[0].radius > 0);
    how.noise = TIGHTROPE_GAUSSIAN_INPUT;
    CHECK(tightrope_smooth(network, x, N, &how, built_in) == TIGHTROPE_OK);
    struct base base = {network, 0, 0};
    CHECK(tightrope_smooth_classifier(classify, &base, CLASSES, x, N, INPUTS, &how, called) == TIGHTROPE_OK);
    CHECK(base.calls >= 2 * N);
    for (int n = 0; n < N; n++) {
        CHECK(built_in[n].predicted == called[n].predicted && built_in[n].radius == called[n].radius);
        CHECK(built_in[n].samples == 320 && built_in[n].p_upper == 1);
        double radius;
        CHECK(tightrope_radius(built_in[n].p_lower, 1, 0.25, &radius) == TIGHTROPE_OK);
        CHECK(radius == built_in[n].radius);
    }
    struct base failing = {network, 0, 2};
    REFUSED(tightrope_smooth_classifier(classify, &failing, CLASSES, x, N, INPUTS, &how, called),
            TIGHTROPE_CLASSIFIER_ERROR, "returned 7");
    REFUSED(tightrope_smooth_classifier(NULL, NULL, CLASSES, x, N, INPUTS, &how, called), TIGHTROPE_INPUT_ERROR,
            "classifier");
    REFUSED(tightrope_smooth_classifier(classify, &base, 1, x, N, INPUTS, &how, called), TIGHTROPE_INPUT_ERROR,
            "two classes");
    float undefined[INPUTS];
    memcpy(undefined, x, sizeof undefined);
    undefined[3] = NAN;
    REFUSED(tightrope_smooth(network, undefined, 1, &how, called), TIGHTROPE_INPUT_ERROR, "finite");
    how.first = UINT64_MAX;
    REFUSED(tightrope_smooth(network, x, N, &how, called), TIGHTROPE_INPUT_ERROR, "first");
    how.first = 0;
    how.sigma = -1;
    REFUSED(tightrope_smooth(network, x, N, &how, called), TIGHTROPE_INPUT_ERROR, "sigma");
    how.sigma = 0.25;
    how.map = "softmax";
    REFUSED(tightrope_smooth(network, x, N, &how, called), TIGHTROPE_INPUT_ERROR, "map");
    tightrope_network_free(network);
}

struct watch {
    uint64_t told, most;
};

static int watch(void *user, uint64_t done)
{
    struct watch *watch = user;
    watch->told = done;
    return done >= watch->most;
}

/* Models in memory, of another shape and behind a normalisation; searches, constants, and calls that are
 * ended. */
static void doors(const char *folder, const float *x)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/mnist-cnn-pgd0.1.onnx", folder);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    static uint8_t bytes[4 << 20];
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    tightrope_network *stored = NULL, *network = NULL, *scaled = NULL;
    CHECK(tightrope_network_load(path, &stored) == TIGHTROPE_OK);
    size_t shape[] = {1, 1, 28, 28};
    double mean = 0.5, std = 0.25;
    tightrope_model model = {.data = bytes, .data_len = len, .input_shape = shape, .input_axes = 4};
    CHECK(tightrope_network_open(&model, &network) == TIGHTROPE_OK);
    model.mean = &mean, model.std = &std, model.channels = 1;
    CHECK(tightrope_network_open(&model, &scaled) == TIGHTROPE_OK);
    static float moved[N * INPUTS];
    for (int i = 0; i < N * INPUTS; i++)
        moved[i] = (x[i] - 0.5F) / 0.25F;
    float one[N * CLASSES], two[N * CLASSES], three[N * CLASSES];
    CHECK(tightrope_evaluate(stored, moved, N, one, N * CLASSES) == TIGHTROPE_OK);
    CHECK(tightrope_evaluate(network, moved, N, two, N * CLASSES) == TIGHTROPE_OK);
    CHECK(tightrope_evaluate(scaled, x, N, three, N * CLASSES) == TIGHTROPE_OK);
    for (int i = 0; i < N * CLASSES; i++)
        CHECK(one[i] == two[i] && fabs(one[i] - three[i]) < 1e-4);
    tightrope_network *none = NULL;
    model.path = path;
    REFUSED(tightrope_network_open(&model, &none), TIGHTROPE_INPUT_ERROR, "one of the two");
    model.path = NULL, model.data_len = len / 2;
    REFUSED(tightrope_network_open(&model, &none), TIGHTROPE_MODEL_ERROR, "model in memory");
    model.data_len = 0;
    REFUSED(tightrope_network_open(&model, &none), TIGHTROPE_INPUT_ERROR, "and no data");
    model.data_len = len, std = 0;
    REFUSED(tightrope_network_open(&model, &none), TIGHTROPE_INPUT_ERROR, "positive deviations");
    CHECK(none == NULL);

    double constant = -1;
    CHECK(tightrope_lipschitz(network, &constant) == TIGHTROPE_OK && constant > 1 && isfinite(constant));
    tightrope_smoothing how = tightrope_smoothing_defaults();
    how.n = 200, how.lipschitz = -1;
    tightrope_smoothed aware[N];
    CHECK(tightrope_smooth(network, x, N, &how, aware) == TIGHTROPE_OK && aware[0].samples >= 200);
    how.lipschitz = NAN;
    CHECK(tightrope_smooth(network, x, N, &how, aware) != TIGHTROPE_PANIC);
    struct base base = {network, 0, 0};
    how.lipschitz = 1;
    REFUSED(tightrope_smooth_classifier(classify, &base, CLASSES, x, N, INPUTS, &how, aware),
            TIGHTROPE_INPUT_ERROR, "accepted: with a network");

    int64_t y[N];
    for (int n = 0; n < N; n++) {
        y[n] = 0;
        for (int c = 1; c < CLASSES; c++)
            if (three[n * CLASSES + c] > three[n * CLASSES + y[n]])
                y[n] = c;
    }
    tightrope_region region = {.eps = 0.02, .norm = TIGHTROPE_LINF, .clip = true, .clip_low = 0, .clip_high = 1};
    tightrope_certificate found[N];
    CHECK(tightrope_certify(scaled, x, y, N, &region, TIGHTROPE_COMPLETE, NULL, 60, found, NULL, 0, NULL, 0) ==
          TIGHTROPE_OK);
    CHECK(found[0].verdict != TIGHTROPE_UNKNOWN && found[1].verdict != TIGHTROPE_UNKNOWN);
    REFUSED(tightrope_certify(scaled, x, y, N, &region, TIGHTROPE_COMPLETE, NULL, -1, found, NULL, 0, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "timeout_seconds");

    /* Ended before the first input, and after the first of two. */
    struct watch ending = {0, 0};
    tightrope_watch(watch, &ending);
    REFUSED(tightrope_certify(network, x, y, N, &region, TIGHTROPE_IBP, NULL, 0, found, NULL, 0, NULL, 0),
            TIGHTROPE_INTERRUPTED, "after 0 inputs");
    CHECK(found[0].predicted == -1 && found[0].verdict == TIGHTROPE_UNKNOWN && isnan(found[0].margin));
    how.lipschitz = 0, ending.most = 1;
    REFUSED(tightrope_smooth(network, x, N, &how, aware), TIGHTROPE_INTERRUPTED, "after 1 inputs");
    CHECK(aware[0].samples >= 200 && aware[1].samples == 0 && aware[1].predicted == -1 && aware[1].radius == 0);
    ending.most = 100;
    CHECK(tightrope_smooth(network, x, N, &how, aware) == TIGHTROPE_OK && ending.told == N);
    tightrope_watch(NULL, NULL);
    tightrope_network_free(stored);
    tightrope_network_free(network);
    tightrope_network_free(scaled);
}

static void verdicts(const char *folder)
{
    tightrope_network *network = NULL;
    load(folder, "pendulum.onnx", &network);
    /* The torque is never above -0.5 there, but somewhere above -1. */
    double lower[] = {0.3, 0.0}, upper[] = {1.0, 2.0}, rows[] = {-1, -1}, bounds[] = {0.5, 1.0};
    size_t counts[] = {1, 1};
    float witness[2] = {-9, -9}, torque;
    tightrope_outcome found;
    CHECK(tightrope_verify(network, lower, upper, rows, bounds, counts, 1, 60, &found, witness, 2) ==
          TIGHTROPE_OK);
    CHECK(found.answer == TIGHTROPE_UNSAT && found.subproblems >= 1 && witness[0] == -9);
    CHECK(tightrope_verify(network, lower, upper, rows, bounds, counts, 2, 60, &found, witness, 2) ==
          TIGHTROPE_OK);
    CHECK(found.answer == TIGHTROPE_SAT && witness[0] >= 0.3F && witness[0] <= 1 && witness[1] >= 0);
    CHECK(tightrope_evaluate(network, witness, 1, &torque, 1) == TIGHTROPE_OK && torque >= -1);
    /* Too near to what is true for bounds alone; the caller ends the search. */
    double wide_lower[] = {-1, -2}, wide_upper[] = {0, 0.1}, cap = -1.995, one = 1;
    struct watch ending = {0, 1};
    tightrope_watch(watch, &ending);
    CHECK(tightrope_verify(network, wide_lower, wide_upper, &one, &cap, counts, 1, 0, &found, NULL, 0) ==
          TIGHTROPE_OK);
    CHECK(found.answer == TIGHTROPE_TIMED_OUT && ending.told >= 1);
    tightrope_watch(NULL, NULL);
    REFUSED(tightrope_verify(network, upper, lower, rows, bounds, counts, 1, 1, &found, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "entry 0");
    REFUSED(tightrope_verify(network, lower, upper, rows, bounds, counts, 0, 1, &found, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "disjuncts");
    REFUSED(tightrope_verify(network, lower, upper, rows, bounds, counts, 1, NAN, &found, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "timeout_seconds");
    REFUSED(tightrope_verify(network, lower, NULL, rows, bounds, counts, 1, 1, &found, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "upper");
    REFUSED(tightrope_verify(network, lower, upper, rows, bounds, counts, 1, 1, &found, witness, 3),
            TIGHTROPE_INPUT_ERROR, "witness");
    counts[0] = SIZE_MAX;
    REFUSED(tightrope_verify(network, lower, upper, rows, bounds, counts, 2, 1, &found, NULL, 0),
            TIGHTROPE_INPUT_ERROR, "counts");
    tightrope_network_free(network);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODELS\n", argv[0]);
        return 2;
    }
    CHECK(strlen(tightrope_version()) >= 5 && strlen(tightrope_last_error()) == 0);
    CHECK(tightrope_set_threads(2) == TIGHTROPE_OK);
    REFUSED(tightrope_set_threads(2), TIGHTROPE_INPUT_ERROR, "before the first computation");
    static float x[N * INPUTS];
    inputs(x);
    bounds_and_certificates(argv[1], x);
    smoothing(argv[1], x);
    verdicts(argv[1]);
    doors(argv[1], x);

    tightrope_network *none = NULL;
    REFUSED(tightrope_network_load("missing.onnx", &none), TIGHTROPE_MODEL_ERROR, "missing.onnx");
    REFUSED(tightrope_network_load(NULL, &none), TIGHTROPE_INPUT_ERROR, "path");
    CHECK(none == NULL && tightrope_network_inputs(NULL) == 0 && tightrope_network_classes(NULL) == 0);
    tightrope_network_free(NULL);

    double lower = -1, upper = -1;
    CHECK(tightrope_clopper_pearson(100, 100, 0.001, &lower, &upper) == TIGHTROPE_OK);
    CHECK(lower <= pow(0.001, 0.01) && lower > pow(0.001, 0.01) - 1e-9 && upper == 1);
    CHECK(tightrope_clopper_pearson(0, 100, 0.001, &lower, NULL) == TIGHTROPE_OK && lower == 0);
    REFUSED(tightrope_clopper_pearson(5, 4, 0.001, &lower, NULL), TIGHTROPE_INPUT_ERROR, "5 successes of 4");
    REFUSED(tightrope_clopper_pearson(4, 5, 1.5, &lower, NULL), TIGHTROPE_INPUT_ERROR, "alpha");
    REFUSED(tightrope_radius(0.9, 1, 0.25, NULL), TIGHTROPE_INPUT_ERROR, "radius");
    REFUSED(tightrope_radius(NAN, 1, 0.25, &lower), TIGHTROPE_INPUT_ERROR, "probabilities");

    if (failures == 0)
        puts("all checks hold");
    return failures != 0;
}
