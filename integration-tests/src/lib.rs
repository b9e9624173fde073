//! Tests of the whole: firebreaks, a small city in one process, real clients, real data.
