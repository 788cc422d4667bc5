//! The library behind the command `mailproof`; the program is a thin `main` over it.

pub mod input;
