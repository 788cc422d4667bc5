//! libmailproof as C programs see it: compiled, linked and run against the library that cargo has built for these tests.

mod abi;
mod c;
mod compilers;
mod cross;
mod examples;
mod exim;
mod instrumented;
mod loaded;
mod minimal;
mod random_calls;
mod scenarios;
