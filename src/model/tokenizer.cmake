# The tokenizers, a target of their own: no other part of the model folder needs these libraries.
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

set(SVDLLM_TOKENIZER_SOURCES
  bpe.cc gguf.cc gguf_quants.cc gguf_tokenizer.cc json_text.cc sentencepiece_proto.cc tokenizer.cc tokenizer_added.cc tokenizer_config.cc
  tokenizer_byte_level.cc tokenizer_decode.cc tokenizer_json.cc tokenizer_ranks.cc
  tokenizer_vocab_merges.cc
  tokenizer_json_steps.cc tokenizer_pipeline.cc tokenizer_sentencepiece.cc tokenizer_steps.cc
  unicode_normalize.cc unicode_regex.cc unicode_tables.cc unicode_text.cc)
list(TRANSFORM SVDLLM_TOKENIZER_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)

svdllm_library(tokenizer
  SOURCES ${SVDLLM_TOKENIZER_SOURCES}
  DEPS svdllm_base absl::flat_hash_map absl::flat_hash_set
  PRIVATE_DEPS PkgConfig::PCRE2 PkgConfig::UTF8PROC nlohmann_json::nlohmann_json)

svdllm_module(sentencepiece
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/sentencepiece_module.cc
  DEPS PkgConfig::SENTENCEPIECE)
add_dependencies(svdllm_tokenizer svdllm_sentencepiece)
