#include "tasks/bleu.h"

#include <gtest/gtest.h>

namespace svdllm {
namespace {

// The figures are sacrebleu 2.6's, called as lm-evaluation-harness calls it.
TEST(Bleu, IsSacrebleus) {
  struct Case {
    const char *hypothesis, *reference;
    double score;
  };
  constexpr char kMat[] = "The cat sat on the mat.";
  for (const Case& c : {
           Case{kMat, kMat, 100},
           {"\nA: The cat sat there, on a mat.", kMat, 18.36028134946796},
           {"The cat", kMat, 0},  // no four words
           {"entirely other words stand here", kMat, 0},
           {"It costs $1,234.50 (about 1.234,50 €) in 2024.",
            "It costs $1,234.50, about 1.234,50 € in 2024.", 37.81790427652475},
           {"the the the the the the", "the cat is on the mat", 9.652434877402245},
           {"«Déjà vu» – naïve café… isn't it?", "«Déjà vu» — a naïve café isn't it?",
            52.664038784792666},
           {"a b c d e", "a b x d e f g h i j", 11.115018927487522},
           {"No.", "No.", 0},
           {"Yes, it is  really\tso\u00a0.", "Yes, it is really so.", 100},
           {"", "I have no comment.", 0},
       }) {
    EXPECT_NEAR(SentenceBleu(c.hypothesis, c.reference), c.score, 1e-9) << c.hypothesis;
  }
}

}  // namespace
}  // namespace svdllm
