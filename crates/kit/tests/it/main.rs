//! The kit from outside: what a server of ours does with clients that misbehave.

mod http;
