//! Reading whole models.
