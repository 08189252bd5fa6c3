//! cell-plan
