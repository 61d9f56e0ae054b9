//! IDL compiler: interface files to Rust stubs, server traits, dispatch and reference.
