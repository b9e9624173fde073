//! city-data
