//! A domain's own workers: one department's part of a question, run on several machines of that department.
