//! Signals, deadlines and the two processes' ends.
