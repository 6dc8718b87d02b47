//! The API as it is served: rights, stories, its description.

mod http;
mod matrix;
mod openapi;
mod rows;
mod story;
mod transport;
mod world;
