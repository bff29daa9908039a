#include "dataplane/worker/publisher.h"

#include <gtest/gtest.h>

namespace sluice::worker {
namespace {

std::shared_ptr<const tables::Snapshot> snapshot(uint64_t generation) {
  auto s = std::make_shared<tables::Snapshot>();
  s->generation = generation;
  return s;
}

TEST(Publisher, AnOldSnapshotGoesWhenEveryWorkerHasPassedAQuiescentPointAndNotBefore) {
  Publisher p(2);
  p.online(0);
  p.online(1);
  EXPECT_EQ(p.load(), nullptr);
  auto one = snapshot(1);
  const std::weak_ptr<const tables::Snapshot> alive = one;
  p.publish(std::move(one));
  EXPECT_EQ(p.load()->generation, 1u);
  p.publish(snapshot(2));
  EXPECT_EQ(p.load()->generation, 2u);
  EXPECT_EQ(p.reclaim(), 1u);
  p.quiescent(0);
  EXPECT_EQ(p.reclaim(), 1u);
  EXPECT_FALSE(alive.expired()) << "worker 1 may still read it";
  p.quiescent(1);
  EXPECT_EQ(p.reclaim(), 0u);
  EXPECT_TRUE(alive.expired());
}

TEST(Publisher, AWorkerThatIsOfflineHoldsNothingBack) {
  Publisher p(2);
  p.online(0);
  p.publish(snapshot(1));
  p.publish(snapshot(2));
  EXPECT_EQ(p.reclaim(), 1u);
  p.quiescent(0);
  EXPECT_EQ(p.reclaim(), 0u);
  p.offline(0);
  p.publish(snapshot(3));
  EXPECT_EQ(p.reclaim(), 0u);
}

TEST(Publisher, SeveralOldSnapshotsGoInOrderAndAWorkerThatCameLaterHoldsOnlyWhatItMaySee) {
  Publisher p(1);
  p.publish(snapshot(1));
  p.publish(snapshot(2));
  EXPECT_EQ(p.reclaim(), 0u);
  p.online(0);
  p.publish(snapshot(3));
  p.publish(snapshot(4));
  EXPECT_EQ(p.reclaim(), 2u);
  EXPECT_EQ(p.current()->generation, 4u);
  EXPECT_EQ(p.published(), 4u);
  p.quiescent(0);
  EXPECT_EQ(p.reclaim(), 0u);
}

}  // namespace
}  // namespace sluice::worker
