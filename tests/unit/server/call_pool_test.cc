#include "server/call_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace svdllm {
namespace {

TEST(CallPoolTest, RunsEveryCallThatItTakes) {
  std::atomic<int> ran{0};
  {
    CallPool pool(3, 1000);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 500);
}

TEST(CallPoolTest, RefusesWhatIsPastItsBound) {
  std::promise<void> started, go;
  std::shared_future<void> let_go = go.get_future().share();
  std::atomic<int> ran{0};
  CallPool pool(1, 2);
  ASSERT_TRUE(pool.Submit([&, let_go] {
    started.set_value();
    let_go.wait();
  }));
  started.get_future().wait();  // this one waits no more
  EXPECT_TRUE(pool.Submit([&] { ++ran; }));
  EXPECT_TRUE(pool.Submit([&] { ++ran; }));
  EXPECT_FALSE(pool.Submit([&] { ++ran; }));
  go.set_value();
  pool.Finish();
  EXPECT_EQ(ran, 2);
  EXPECT_FALSE(pool.Submit([&] { ++ran; })) << "after Finish";
}

}  // namespace
}  // namespace svdllm
