"""YAML that others write: read with limits, checked strictly, edited without touching another byte."""
