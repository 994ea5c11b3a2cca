mod recipe;
mod server;
