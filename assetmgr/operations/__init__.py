"""What users do, a module or a folder for each verb; every interface calls the same functions.

Writing operations plan from headers first and run the plan; batches yield a result or a `Failure`
per item.
"""
