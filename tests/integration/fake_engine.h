// A pipeline that only pretends, for tests of the service: every step of every job is chosen by the
// test.
#pragma once

#include "server/engine.h"

namespace svdllm {

// What a job does is said by its request and by files in its model directory:
//   calibration.samples (tasks[0].limit) steps, as layers of a stage "calibrate", of
//   calibration.seq_len (tasks[0].seq_len) milliseconds each, then a published artifact per keep
//   ratio;
//   file fail: after half of the steps the job fails; the file holds the reason, and before a blank
//              the number of the status code: "3 MODEL_CORRUPT";
//   file crash: the process is killed after half of the steps; crash_once: and the file removed;
//   file poison_once: it is removed, and after half of the steps the job fails, and check_device
//   from
//              then on;
//   file hang: a check of the job hangs as long as it is there; crash_check: it ends its process;
//   file corrupt: the model is refused when the job is submitted.
// open_device fails while there is a file of the name that FAKE_DEVICE_GONE has in the environment.
Engine FakeEngine();

}  // namespace svdllm
