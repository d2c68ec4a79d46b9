# %% a magic of the whole cell
%%bash
touch '@OUT@/magic' /tmp/magic-@TAG@

# %% lines for the shell and magics
!touch '@OUT@/magic' /tmp/magic-@TAG@
%load_ext hostile
get_ipython().system("touch '@OUT@/magic'")

# %% resample
