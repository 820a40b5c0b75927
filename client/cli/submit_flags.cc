// The flags of compress and evaluate.
#include "client/cli/submit_requests.h"

namespace svdllm::cli {
namespace {

constexpr char kPackings[] = "CONCATENATED|DOCUMENTS";
constexpr char kModelsLength[] =
    "0: 2048, or as many as the model has positions where those are fewer.";

FlagGroup JobFlags() {
  return {"Job",
          {{"validate_only", FlagType::kSwitch, "", "",
            "Starts nothing: checks the request and prints what it would do and cost."},
           {"watch", FlagType::kSwitch, "", "",
            "Shows progress on standard error until the job has ended, then prints its result. The "
            "default where standard output and error are a terminal."},
           {"detach", FlagType::kSwitch, "", "",
            "Prints the job's name and does not wait. The default elsewhere."},
           {"request_id", FlagType::kText, "UUID", "",
            "Makes a repeated submission harmless: the same id with the same request is the same "
            "job. Default: a new random one."},
           {"label", FlagType::kLabel, "KEY=VALUE", "", "Your own mark, to filter lists by.", true},
           {"timeout", FlagType::kDuration, "DURATION", "",
            "The job fails when it has not ended this long after it was started, e.g. 2h30m. "
            "Default: none."}}};
}

// Of every task but perplexity.
std::vector<FlagSpec> TaskFlags() {
  return {{"answers", FlagType::kText, "TASK=FILE|URI", "",
           "The answers of a task whose dataset has them in a file of their own: piqa, winogrande.",
           true},
          {"fewshot", FlagType::kText, "TASK=N:FILE|URI", "",
           "Puts N solved examples in front of every question: the first of FILE, which is like "
           "the task's own.",
           true}};
}

FlagGroup ThroughputFlags(const char* title) {
  return {
      title,
      {{"throughput", FlagType::kSizes, "N[,N...]", "",
        "Measures how many tokens a second the model reads (prefill) and writes (decode), with N "
        "sequences together, and the peak of memory; alone: with 1 and with 8. Default: not "
        "measured."},
       {"prompt_tokens", FlagType::kPositive, "N", "",
        "With --throughput: tokens of each prompt. Default: 512, or what positions the model has "
        "beside --new_tokens where those are fewer."},
       {"new_tokens", FlagType::kPositive, "N", "32",
        "With --throughput: tokens that each sequence is continued by, at least 2."},
       {"repetitions", FlagType::kPositive, "N", "3",
        "With --throughput: rounds that are timed, behind one that warms up; the median counts."}}};
}

FlagGroup WithTaskFlags(FlagGroup group) {
  for (FlagSpec& flag : TaskFlags()) group.flags.push_back(std::move(flag));
  return group;
}

}  // namespace

FlagTable CompressFlags() {
  return {
      {"What",
       {{"model", FlagType::kText, "DIR|URI", "",
         "The model: a Hugging Face directory with config.json and safetensors, or a .gguf file. "
         "Read by the "
         "server; "
         "a relative path is taken from here and made absolute. Required."},
        {"method", FlagType::kChoice, "svd|asvd|svd_llm|svd_llm_update|anchored", "",
         "svd: of the weights alone. asvd: input channels scaled by their magnitude. svd_llm: "
         "whitened by the calibration data, which loses least at each layer's output. "
         "svd_llm_update: that, then a closed-form update to the already compressed layers "
         "before. anchored: whitening of a target that makes up for what the layers before have "
         "lost. Default: anchored."},
        {"keep_ratio", FlagType::kReals, "R[,R...]", "",
         "The share of the linear layers' parameters to keep, above 0 and up to 1. Several give "
         "one "
         "artifact each from one calibration. Required.",
         true},
        {"encoding", FlagType::kChoice, "plain|pivoted", "",
         "How a matrix of low rank is stored: plain: two factors. pivoted: some of its rows, and "
         "the coefficients of the others in them, which is smaller and so leaves room for more "
         "rank. Default: pivoted with anchored, else plain."},
        {"allocation", FlagType::kChoice, "uniform|v2|d_rank|relative_tails|kl_probe", "",
         "How ranks are spread over the matrices. uniform: the same keep ratio everywhere. v2: by "
         "each matrix's loss, among matrices of a kind. d_rank: by effective rank. relative_tails: "
         "least sum of relative losses. kl_probe: least sum of measured effects on the model's "
         "output. Default: kl_probe with anchored, else uniform."},
        {"min_keep_ratio", FlagType::kReal, "R", "",
         "With d_rank, relative_tails and kl_probe: no matrix gets a rank below the largest that "
         "fits "
         "this share of its numbers. Default: 0.1, or half the least --keep_ratio where that is "
         "less."},
        {"rank_multiple", FlagType::kPositive, "N", "1",
         "Ranks are multiples of this where they can be, up to 1024: what a device's tiles like."},
        {"asvd_alpha", FlagType::kReal, "A", "0.5",
         "With --method=asvd: the exponent of the channel scales, 0 to 1."},
        {"anchor_blend", FlagType::kReal, "B", "0.5",
         "With --method=anchored: how far the target goes from what a layer computes on the "
         "compressed model's inputs (0) to what it computes in the dense model (1)."},
        {"anchor_ridge", FlagType::kReal, "M", "1e-6",
         "With --method=anchored: what holds the target to the weights, as a share of the inputs' "
         "mean square, 0 to 1."}}},
      {"Calibration",
       {{"calibration", FlagType::kText, "[WEIGHT:]FILE|URI|MODEL_SAMPLES", "",
         "The text to calibrate on: plain text, .jsonl (a document a line) or .json (an array). "
         "Read by the server, like --model. Several give sequences in proportion to their weights, "
         "1 where none is given: --calibration=3:wiki.txt --calibration=c4.jsonl. MODEL_SAMPLES "
         "stands for text that the model itself writes. Required.",
         true},
        {"calibration_samples", FlagType::kPositive, "N", "256",
         "Sequences, of all texts together."},
        {"calibration_seq_len", FlagType::kInteger, "N", "0",
         std::string("Tokens a sequence; ") + kModelsLength},
        {"seed", FlagType::kInteger, "N", "3",
         "Draws the sequences; the same seed, the same bytes."},
        {"packing", FlagType::kChoice, kPackings, "CONCATENATED",
         "CONCATENATED: documents are joined, tokenised as one text, then cut. DOCUMENTS: each "
         "document is one sequence, cut at the sequence length."},
        {"text_field", FlagType::kText, "NAME", "text",
         "The member that holds the text where documents are JSON objects, also of --evaluation."},
        {"first_document", FlagType::kInteger, "N", "0",
         "With --packing=DOCUMENTS: documents before this one are passed over."}}},
      {"Perplexity before and after",
       {{"evaluation", FlagType::kText, "[NAME=]FILE|URI", "",
         "A text to measure on, beside what calibration leaves of its own (in domain): plain text, "
         ".jsonl or .json. Default name: the file's, without its ending.",
         true},
        {"evaluation_seq_len", FlagType::kInteger, "N", "0",
         std::string("With --evaluation: tokens a window; ") + kModelsLength},
        {"evaluation_limit", FlagType::kInteger, "N", "0",
         "With --evaluation: windows (or documents) of each text at most; 0: all."},
        {"evaluation_packing", FlagType::kChoice, kPackings, "CONCATENATED",
         "With --evaluation: as --packing."},
        {"no_evaluation", FlagType::kSwitch, "", "", "Measures nothing, and saves the time."}}},
      WithTaskFlags(
          {"Tasks before and after",
           {{"task", FlagType::kText, "TASK=FILE|URI", "",
             "Questions to ask before and after; server-info lists the tasks. E.g. "
             "--task=openbookqa=test.jsonl.",
             true},
            {"task_limit", FlagType::kInteger, "N", "0", "Items of each task at most; 0: all."}}}),
      ThroughputFlags("Speed before and after"),
      {"Output",
       {{"output", FlagType::kText, "DIR|URI", "",
         "Where the artifact goes, on the server, below its artifact root; a relative path is "
         "taken "
         "from there. Several keep ratios go to keep-0.80 and so on below it. Default: the job's "
         "id."},
        {"output_format", FlagType::kChoice, "FACTORED|DENSE", "FACTORED",
         "FACTORED: small factors in place of each matrix. DENSE: the stock architecture with "
         "approximated "
         "weights, for tools that cannot load factors; not smaller."}}},
      JobFlags()};
}

FlagTable EvaluateFlags() {
  return {
      WithTaskFlags(
          {"What",
           {{"model", FlagType::kText, "DIR|URI", "",
             "The checkpoint, dense or compressed: a directory, or an artifact's URI. Read by the "
             "server; a relative path is taken from here and made absolute. Required."},
            {"tasks", FlagType::kText, "TASK[,TASK...]", "perplexity",
             "What to measure; server-info lists what the server can. With --throughput and no "
             "--dataset: none."},
            {"dataset", FlagType::kText, "[TASK=]FILE|URI", "",
             "What a task reads: with perplexity a text (plain, .jsonl or .json), else the "
             "dataset's "
             "file. Read by the server, like --model. "
             "With perplexity, another name than a task's becomes the figure's label, so that one "
             "job "
             "measures several texts: --dataset=wiki=a.txt --dataset=news=b.txt.",
             true},
            {"seq_len", FlagType::kInteger, "N", "0",
             std::string("Tokens a window; ") + kModelsLength},
            {"limit", FlagType::kInteger, "N", "0",
             "Windows, documents or items of each task at most; 0: all."},
            {"packing", FlagType::kChoice, kPackings, "CONCATENATED",
             "CONCATENATED: documents are joined, tokenised as one text, then cut in windows. "
             "DOCUMENTS: each document is one window, cut at --seq_len."},
            {"text_field", FlagType::kText, "NAME", "text",
             "The member that holds the text where documents are JSON objects."}}}),
      ThroughputFlags("Speed"),
      {"Comparison",
       {{"baseline", FlagType::kText, "DIR|URI", "",
         "A second checkpoint, measured in the same job: the model before compression, say. "
         "Default: none."},
        {"max_accuracy_drop", FlagType::kReal, "D", "",
         "Asks for a verdict against the baseline: each task's accuracy may fall by this much; "
         "0.02 "
         "lets 0.40 become 0.38. Where it fell by more, the exit status is 5. "
         "Default: no verdict."},
        {"max_perplexity_increase", FlagType::kReal, "R", "",
         "Likewise: each perplexity may rise by this share; 0.1 lets 10 become 11. Default: "
         "no verdict."}}},
      {"Output",
       {{"output", FlagType::kText, "DIR|URI", "",
         "Where the report goes (report.html, evaluation_report.json, predictions.jsonl), on the "
         "server, below its artifact root. Default: the job's id."}}},
      JobFlags()};
}

}  // namespace svdllm::cli
