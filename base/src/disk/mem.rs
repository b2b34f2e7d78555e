//! An in-memory disk that can crash and fail, for the simulation and for tests.
//! (Owned by the simulation work.)
