// What a job takes over from an earlier attempt of its own, and keeps for the next.
#pragma once

#include <string>

#include "corpus/calibration.h"
#include "evaluate/measure.h"
#include "journal/journal.h"
#include "pipeline/resolve.h"

namespace svdllm {

// Opens the job's journal. It tells of the model and what else shapes the results; what an earlier
// attempt has kept is told to the hooks. CHECKPOINT_MISMATCH as Journal::Open says. A job without a
// journal_dir gets one that keeps nothing.
absl::StatusOr<Journal> OpenJournal(const CompressJob& job, const Backend& backend,
                                    const RunHooks& hooks);
absl::StatusOr<Journal> OpenJournal(const EvaluateJob& job, const Backend& backend,
                                    const RunHooks& hooks);

// A sampler that writes each text once for all attempts.
ModelSampler KeptSampler(Journal& journal, ModelSampler sampler);

// A digest of all token ids that a compression computes with.
std::string DigestOfTokens(const Sequences& calibration, const MeasureJob& measure);

// Measure (evaluate/measure.h), a text or task at a time, each of which is kept as record n of the
// series. `series` names the model that is measured.
absl::StatusOr<Measured> MeasureKept(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                     const MeasureJob& what, Backend& backend, Progress& progress,
                                     Journal& journal, const std::string& series);

// The disk that a compression's journal takes at the most, factor_bytes of it for the factors of
// all keep ratios.
int64_t JournalBytes(const CompressJob& job, int64_t factor_bytes);

}  // namespace svdllm
