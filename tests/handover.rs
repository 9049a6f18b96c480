//! The hand-over: is it the promised token, and is what comes out of it the promised identity?
