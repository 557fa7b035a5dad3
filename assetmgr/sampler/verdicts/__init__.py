"""What a render proves: the checks behind a verdict, each with value and threshold."""
