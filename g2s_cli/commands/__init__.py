"""One verb a file: parse, call the pipeline, print."""
