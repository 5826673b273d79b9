//! The CRI v1 API and `corten.admin.v1`, as generated code.
