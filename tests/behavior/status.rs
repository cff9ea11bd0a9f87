//! The facts that operators see, and whether they are true.
