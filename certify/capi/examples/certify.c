/* Certifies one input of a network in every way that the library has.
 *
 *   cargo build --release -p tightrope-capi
 *   cc certify/capi/examples/certify.c -Icertify/capi/include -Ltarget/release -ltightrope -lm -o certify
 *   LD_LIBRARY_PATH=target/release ./certify models/mnist-mlp-noise25.onnx
 */
#include <stdio.h>
#include <stdlib.h>

#include "tightrope.h"

static void check(tightrope_status status)
{
    if (status != TIGHTROPE_OK) {
        fprintf(stderr, "error: %s\n", tightrope_last_error());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODEL.onnx\n", argv[0]);
        return 2;
    }
    tightrope_network *network = NULL;
    check(tightrope_network_load(argv[1], &network));
    size_t inputs = tightrope_network_inputs(network), classes = tightrope_network_classes(network);

    /* A vertical stroke. Any array of the network's length would do. */
    float *x = calloc(inputs, sizeof *x), *logits = calloc(classes, sizeof *logits);
    if (x == NULL || logits == NULL)
        return 1;
    for (size_t i = 0; i < inputs; i++)
        x[i] = i % 28 >= 13 && i % 28 <= 15 && i / 28 % 28 >= 5 && i / 28 % 28 <= 22 ? 1.0F : 0.0F;
    check(tightrope_evaluate(network, x, 1, logits, classes));
    int64_t label = 0;
    for (size_t class = 1; class < classes; class++)
        if (logits[class] > logits[label])
            label = (int64_t)class;

    /* With proof: no perturbation of .01 on any pixel changes the class. */
    tightrope_region region = {.eps = 0.01, .norm = TIGHTROPE_LINF, .clip = true, .clip_low = 0, .clip_high = 1};
    tightrope_certificate certificate;
    check(tightrope_certify(network, x, &label, 1, &region, TIGHTROPE_CROWN, NULL, 0, &certificate, NULL, 0,
                            NULL, 0));
    printf("class %lld: %s at eps %g, margin at least %.4f\n", (long long)certificate.predicted,
           certificate.verdict == TIGHTROPE_CERTIFIED ? "certified" : "not certified", region.eps,
           certificate.margin);

    /* With a risk of .001: no perturbation of this l2 length changes the smoothed class. */
    tightrope_smoothing how = tightrope_smoothing_defaults();
    how.n = 2000;
    tightrope_smoothed smoothed;
    check(tightrope_smooth(network, x, 1, &how, &smoothed));
    printf("smoothed class %lld: radius %.4f with %llu samples\n", (long long)smoothed.predicted,
           smoothed.radius, (unsigned long long)smoothed.samples);

    free(logits);
    free(x);
    tightrope_network_free(network);
    return 0;
}
