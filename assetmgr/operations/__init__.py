"""What users do, one module per verb; command line, terminal UI and Python call the same functions.

Writing operations plan from headers first and run the plan; batches yield a result or a `Failure`
per item.
"""
