//! What the fuzz targets share.
//!
//! A target is one idea: bytes in, and a property that has to hold for whatever comes out.

pub mod lines;
