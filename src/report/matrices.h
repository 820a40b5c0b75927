// What the compression page shows of an artifact's matrices.
#pragma once

#include <vector>

#include "job/result.h"
#include "job/spec.h"
#include "report/template.h"

namespace svdllm {

// rank_plan, loss_by_layer and spectra, each as far as there is something to show.
void SetMatrices(const CompressSpec& spec, const std::vector<MatrixReport>& matrices, Data& page);

}  // namespace svdllm
